"""How far samples are from a surface, on the CPU in one pass over them.

Importing this module imports numba; import it where samples are first compared.
"""

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import KERNEL_LOCK, inner


def squared_off(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """`ntalker_ns.kernels.reference.surface.squared_off_torch`; float32."""
    found = positions.new_empty(len(positions))
    with KERNEL_LOCK:
        _squared_off(positions.detach().contiguous().numpy(), surface.contiguous().numpy(), found.numpy())
    return found


@njit(parallel=True, cache=True)
def _squared_off(positions, surface, found):
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
    """The cell whose centre is before a coordinate in [-1, 1], and how far behind it the coordinate is, in cells."""
    place = (coordinate + np.float32(1)) * half - np.float32(0.5)
    # What is no number is in the first cell: max() would hand it on, and its cell lies outside of all memory.
    place = min(place if place > 0 else np.float32(0), np.float32(last))
    cell = np.int32(place)
    return cell, place - np.float32(cell)
