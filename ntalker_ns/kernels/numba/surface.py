"""Distance of samples from a surface, on the CPU in one pass."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import KERNEL_LOCK, inner


def accepts_squared_distance(positions: Tensor, *_: Any) -> bool:
    """float32."""
    return positions.dtype == torch.float32


def squared_distance(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """See `kernels.reference.surface.squared_distance`."""
    found = positions.new_empty(len(positions))
    with KERNEL_LOCK:
        _squared_distance(positions.detach().contiguous().numpy(), surface.contiguous().numpy(), found.numpy())
    return found


@njit(parallel=True, cache=True)
def _squared_distance(positions, surface, found):
    last = surface.shape[0] - 1
    half = np.float32(0.5 * surface.shape[0])
    for i in prange(positions.shape[0]):
        x, along_x = _place(positions[i, 0], half, last)
        z, along_z = _place(positions[i, 2], half, last)
        next_x, next_z = min(x + 1, last), min(z + 1, last)
        near = surface[x, z] + along_z * (surface[x, next_z] - surface[x, z])
        far = surface[next_x, z] + along_z * (surface[next_x, next_z] - surface[next_x, z])
        off = positions[i, 1] - (near + along_x * (far - near))
        found[i] = off * off


@inner
def _place(coordinate, half, last):
    """The cell whose centre is below a coordinate in [-1, 1], and how far above it the coordinate is, in cells."""
    place = (coordinate + np.float32(1)) * half - np.float32(0.5)
    # NaN goes to the first cell: max() would keep it, and its cell would be out of bounds.
    place = min(place if place > 0 else np.float32(0), np.float32(last))
    cell = np.int32(place)
    return cell, place - np.float32(cell)
