"""How far what rays see is from where the tracked face says it is."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.reference.surface import squared_off_torch

OPAQUE = 0.9
"""Opacity of a ray that meets the head's surface, and of a step behind it."""


def squared_off(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """`squared_off_torch`, by the fastest implementation for the device (the same numbers)."""
    backend = automatic_backend(positions.device.type)
    if positions.dtype != torch.float32 or backend == "torch":
        return squared_off_torch(positions, surface)
    if backend == "numba":
        from ntalker_ns.kernels.numba.surface import squared_off as fused
    else:
        from ntalker_ns.kernels.triton.surface import squared_off as fused
    return fused(positions, surface)


def scattered(counts: list[int], share: float, device: torch.device) -> tuple[Int[Tensor, "drawn"], list[int]]:
    """Draws a share of each frame's rays, one at random from each stretch of them.

    Args:
        counts: rays of each frame; they lie frame after frame.
        share: of a frame's rays, 0 to 1, rounded to a whole number of them.
        device: where the indices are wanted.

    Returns:
        Which rays, ascending, and how many of each frame.
    """
    drawn = [round(share * count) for count in counts]
    parts, first = [], 0
    for count, number in zip(counts, drawn, strict=True):
        places = (torch.arange(number, device=device) + torch.rand(number, device=device)) * (count / max(number, 1))
        # The greatest number below a whole one may be rounded up to it.
        parts.append(first + places.long().clamp(max=count - 1))
        first += count
    return torch.cat(parts), drawn
