"""Learns the prior over speakers from a bank of clips."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.audio.whisper import WhisperFeatures
from ntalker_ns.console import track
from ntalker_ns.speech.offset import shifted
from ntalker_ns.speech.prior import HIDDEN, CodeNetwork, LipPrior, window_inputs
from ntalker_ns.speech.training.bank import BankClip, lip_displacements

CODES = 10
"""Principal components of displacements that are predicted: 97% of their variance."""

RIDGE = 0.5
"""Regularisation a frame: the prior variance of a weight is the noise's over this times the number of frames. Between
0.05 and 1.6 the correlation on left-out speakers stays within 0.002."""

NETWORKS = 3
"""Networks that are trained from different seeds and averaged; `HIDDEN` is the sum of their hidden units."""
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 25, 256, 2e-3, 3e-2, 0.3
"""Epochs, frames per step, peak learning rate, weight decay and dropout probability of their training."""


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
    """From inputs to the principal components of displacements: the mean of ridge regression and a network."""
    inputs = torch.cat([example.inputs for example in found])
    target = torch.cat([example.displacements for example in found])
    _, _, axes = torch.linalg.svd(target, full_matrices=False)
    basis = axes[:CODES]
    codes = target @ basis.T
    precision = inputs.T @ inputs + RIDGE * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(precision, inputs.T @ codes)
    networks = [fit_network(inputs, codes, seed) for seed in range(NETWORKS)]
    network = CodeNetwork(
        torch.cat([each.hidden for each in networks], dim=1),
        torch.cat([each.hidden_bias for each in networks]),
        torch.cat([each.output for each in networks]) / (2 * NETWORKS),
    )
    return LipPrior(0.5 * weights, precision, basis.unflatten(1, (-1, 2)), network)


@torch.enable_grad()
def fit_network(inputs: Float[Tensor, "frames inputs"], codes: Float[Tensor, "frames codes"], seed: int) -> CodeNetwork:
    """A network that predicts codes, by AdamW with dropout.

    Args:
        inputs: of `window_inputs`, less their mean over each clip.
        codes: targets, less their mean over each clip.
        seed: of the initial weights, the order of frames and dropout.
    """
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0) + 1e-3
    size = float(codes.std())
    given, wanted = ((inputs - mean) / deviation).float(), (codes / size).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(inputs.shape[1], HIDDEN // NETWORKS), nn.Linear(HIDDEN // NETWORKS, codes.shape[1])
        network = nn.Sequential(nn.Dropout(DROPOUT), first, nn.GELU(), nn.Dropout(DROPOUT), last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        steps = EPOCHS * -(-len(given) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(given)).split(BATCH):
                loss = (network(given[batch]) - wanted[batch]).square().sum(dim=1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    hidden = first.weight.detach().double().T / deviation[:, None]
    return CodeNetwork(hidden, first.bias.detach().double() - mean @ hidden, size * last.weight.detach().double().T)
