"""What training rays see of the occupancy grid on the CPU, in one pass over their samples.

Importing this module imports numba; import it where samples are first seen.
"""

from jaxtyping import Float
from numba import njit
from torch import Tensor


def see(
    positions: Float[Tensor, "samples 3"],
    weights: Float[Tensor, "samples"],
    visible: Float[Tensor, "grid grid grid"],
) -> None:
    """`OccupancyGrid.see`.

    Args:
        positions: world, in [-1, 1].
        weights: compositing weights.
        visible: the most that was seen of each cell; written.
    """
    _see(positions.contiguous().numpy(), weights.contiguous().numpy(), visible.numpy())


@njit(cache=True)
def _see(positions, weights, visible):
    # By one thread: two could write to one cell.
    last = visible.shape[0] - 1
    half = visible.dtype.type(0.5 * visible.shape[0])
    one = visible.dtype.type(1)
    for i in range(positions.shape[0]):
        x = min(max(int((positions[i, 0] + one) * half), 0), last)
        y = min(max(int((positions[i, 1] + one) * half), 0), last)
        z = min(max(int((positions[i, 2] + one) * half), 0), last)
        visible[x, y, z] = max(visible[x, y, z], weights[i])
