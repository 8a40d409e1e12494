"""Learns the prior over speakers from a bank of clips."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.audio.whisper import WhisperFeatures
from ntalker_ns.console import track
from ntalker_ns.speech.offset import shifted
from ntalker_ns.speech.prior import LipPrior, window_inputs
from ntalker_ns.speech.training.bank import BankClip, lip_displacements

CODES = 10
"""Principal components of displacements that are predicted: 97% of their variance."""

RIDGE = 0.5
"""Regularisation a frame: the prior variance of a weight is the noise's over this times the number of frames. Between
0.05 and 1.6 the correlation on left-out speakers stays within 0.002."""


@dataclass(frozen=True)
class BankExample:
    """Inputs and targets of the regression from one clip."""

    name: str
    inputs: Float[Tensor, "frames inputs"]
    """Less their mean."""
    displacements: Float[Tensor, "frames coordinates"]
    """Of `lip_displacements`, flattened."""


def examples(clips: list[BankClip], features: WhisperFeatures) -> list[BankExample]:
    """The valid frames of all clips, with the sound that each clip's lag pairs them with."""
    found = []
    for clip, displacements in zip(track(clips, "Features"), lip_displacements(clips), strict=True):
        windows = features.windows(shifted(clip.waveform, clip.lag), len(clip.landmarks))
        inputs = window_inputs(torch.from_numpy(windows[clip.valid]).double())
        target = torch.from_numpy(displacements[clip.valid]).flatten(1)
        found.append(BankExample(clip.name, inputs - inputs.mean(dim=0), target - target.mean(dim=0)))
    return found


def fit_prior(found: list[BankExample]) -> LipPrior:
    """Ridge regression from inputs to the principal components of displacements."""
    inputs = torch.cat([example.inputs for example in found])
    target = torch.cat([example.displacements for example in found])
    _, _, axes = torch.linalg.svd(target, full_matrices=False)
    basis = axes[:CODES]
    precision = inputs.T @ inputs + RIDGE * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(precision, inputs.T @ (target @ basis.T))
    return LipPrior(weights, precision, basis.unflatten(1, (-1, 2)))
