"""Speakers whose lips follow from Whisper features in a known way."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.speech.prior import HIDDEN, CodeNetwork, LipPrior

CHANNELS, CODES, POINTS = 4, 3, 53


def made_up_prior(seed: int = 0, frames: int = 4000) -> LipPrior:
    """A prior of random weights, as if learned from so many frames."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 8 * CHANNELS
    basis, _ = torch.linalg.qr(torch.randn(2 * POINTS, CODES, generator=generator, dtype=torch.float64))
    return LipPrior(
        # So that displacements have a root mean square of 1, as the prior's have.
        weights=torch.randn(inputs, CODES, generator=generator, dtype=torch.float64) / (inputs * CODES) ** 0.5,
        precision=frames * torch.eye(inputs, dtype=torch.float64),
        basis=basis.T.unflatten(1, (POINTS, 2)),
        network=CodeNetwork(
            torch.randn(inputs, HIDDEN, generator=generator, dtype=torch.float64) / inputs**0.5,
            torch.randn(HIDDEN, generator=generator, dtype=torch.float64),
            torch.randn(HIDDEN, CODES, generator=generator, dtype=torch.float64) / (4 * HIDDEN * CODES) ** 0.5,
        ),
    )


def windows_of(frames: int, seed: int = 0) -> Float[Tensor, "frames 16 4"]:
    """Feature windows of unit variance that are constant within each 40 ms."""
    values = torch.randn(frames, 8, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.clamp(-2.9, 2.9).repeat_interleave(2, dim=1).float()


def person(prior: LipPrior, size: float) -> tuple[Float[Tensor, "6 53 2"], Float[Tensor, "codes 6"]]:
    """The basis of a person whose landmarks move in the prior's directions, `size` times as far, and the shapes that
    stand for the prior's codes."""
    rotation, _ = torch.linalg.qr(torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6))))
    other = torch.randn(3, 2 * POINTS, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    directions = torch.cat([prior.basis.flatten(1), other - other @ prior.basis.flatten(1).T @ prior.basis.flatten(1)])
    basis = rotation @ directions * size
    return basis.unflatten(1, (POINTS, 2)), prior.basis.flatten(1) @ torch.linalg.pinv(basis)
