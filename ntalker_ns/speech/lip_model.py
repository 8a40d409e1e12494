"""Which regression predicts lip shapes from which audio features."""

import numpy as np
import torch
from jaxtyping import Float

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.speech.adaptation import AdaptedPrior
from ntalker_ns.speech.closures import load_readout
from ntalker_ns.speech.lip_regression import LipRegression
from ntalker_ns.speech.silence import most_silent_windows

LipModel = AdaptedPrior | LipRegression
"""Modules with `fit(features, shapes, silence)` and `lip_shapes(features, closed)`, from windows (frames, 16, channels)
to shapes (frames, lip_dim)."""


def create_lip_model(info: FeatureInfo, lip_basis: Float[np.ndarray, "lip_dim points 2"], frames: int) -> LipModel:
    """The prior over speakers for Whisper features, which it was learned with; regression on the clip alone for others.

    Args:
        info: of the features.
        lip_basis: displacements of the person's landmarks for a lip shape of 1 (x and z, world units).
        frames: of the clip.
    """
    basis = torch.from_numpy(lip_basis)
    if info.extractor == "whisper":
        return AdaptedPrior(info.channels, basis, load_readout())
    return LipRegression(info.channels, basis, frames + most_silent_windows(info))
