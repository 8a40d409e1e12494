"""Which cells training rays see, on the CPU in one pass over their samples."""

from jaxtyping import Float
from numba import njit
from torch import Tensor


def mark_visible(
    positions: Float[Tensor, "samples 3"],
    weights: Float[Tensor, "samples"],
    visible: Float[Tensor, "grid grid grid"],
) -> None:
    """See `kernels.reference.occupancy.mark_visible`."""
    arrays = (each.detach().contiguous().numpy() for each in (positions, weights))
    _mark_visible(*arrays, visible.numpy())  # pyright: ignore[reportCallIssue]


@njit(cache=True)
def _mark_visible(positions, weights, visible):
    # In one thread: two could write to one cell.
    last = visible.shape[0] - 1
    half = visible.dtype.type(0.5 * visible.shape[0])
    one = visible.dtype.type(1)
    for i in range(positions.shape[0]):
        x = min(max(int((positions[i, 0] + one) * half), 0), last)
        y = min(max(int((positions[i, 1] + one) * half), 0), last)
        z = min(max(int((positions[i, 2] + one) * half), 0), last)
        visible[x, y, z] = max(visible[x, y, z], weights[i])
