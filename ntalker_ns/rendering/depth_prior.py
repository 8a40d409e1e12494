"""The occlusion prior: which rays have a point behind their surface."""

import torch
from jaxtyping import Int
from torch import Tensor

OPAQUE = 0.9
"""Opacity of a ray that meets the head's surface, and of a step behind it."""


def stratified_rays(counts: list[int], fraction: float, device: torch.device) -> tuple[Int[Tensor, "drawn"], list[int]]:
    """Draws a fraction of each frame's rays by stratified sampling.

    Args:
        counts: rays of each frame; they lie frame after frame.
        fraction: of a frame's rays, 0 to 1, rounded to a whole number of them.
        device: of the indices.

    Returns:
        Which rays, ascending, and how many of each frame.
    """
    drawn = [round(fraction * count) for count in counts]
    parts, first = [], 0
    for count, number in zip(counts, drawn, strict=True):
        places = (torch.arange(number, device=device) + torch.rand(number, device=device)) * (count / max(number, 1))
        # Numbers just below `count` may be rounded up to it.
        parts.append(first + places.long().clamp(max=count - 1))
        first += count
    return torch.cat(parts), drawn
