"""Which cells of the occupancy grid training rays see."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def mark_visible(
    positions: Float[Tensor, "samples 3"],
    weights: Float[Tensor, "samples"],
    visible: Float[Tensor, "grid grid grid"],
) -> None:
    """Raises the visibility of each sample's cell to the sample's weight.

    Args:
        positions: world, in [-1, 1].
        weights: compositing weights, 0 or more.
        visible: the greatest weight seen in each cell; written.
    """
    grid = len(visible)
    cells = ((positions + 1.0) * (0.5 * grid)).long().clamp(0, grid - 1)
    flat = (cells[:, 0] * grid + cells[:, 1]) * grid + cells[:, 2]
    visible.view(-1).scatter_reduce_(0, flat, weights.to(visible.dtype), "amax")
