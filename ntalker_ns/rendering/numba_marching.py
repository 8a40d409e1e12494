"""Ray marching through an occupancy grid on the CPU: numba kernels that skip empty space, parallel over rays.

Importing this module imports numba; import it where rays are first marched.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numba import njit, prange

from ntalker_ns.encodings.numba_common import KERNEL_LOCK, inner
from ntalker_ns.rendering.marching import STILL

BLOCK_SHIFT = 2
BLOCK = 1 << BLOCK_SHIFT
"""Cells along an edge of the blocks that are skipped as a whole where all their cells are empty."""

SLACK = 4e-6
"""Several times the rounding of a position in float32, relative to the lengths it is computed from."""


class Walk:
    """Rays that are marched a few samples at a time: those that lie in occupied cells, t_k = near + (k + jitter) step,
    middle before far.

    The same samples, to the last bit, as asking every k (`march_torch`): empty cells and blocks are left in one
    stride, but never off the lattice of samples.
    """

    left: Int64[np.ndarray, "rays"]
    """How many samples each ray may still have; 0 at its end."""

    def __init__(
        self,
        origins: Float32[np.ndarray, "rays 3"],
        directions: Float32[np.ndarray, "rays 3"],
        nears: Float32[np.ndarray, "rays"],
        fars: Float32[np.ndarray, "rays"],
        occupied: Bool[np.ndarray, "grid grid grid"],
        step: float,
        jitter: Float32[np.ndarray, "rays"],
        max_samples: int,
    ) -> None:
        """For the arguments, see `ntalker_ns.rendering.marching.Lattice`."""
        self._origins, self._directions = _contiguous(origins), _contiguous(directions)
        self._nears, self._fars, self._jitter = _contiguous(nears), _contiguous(fars), _contiguous(jitter)
        self._cells = np.ascontiguousarray(occupied).view(np.uint8)
        self.step = np.float32(step)
        self._first = np.zeros(len(nears), np.int64)
        self.left = np.full(len(nears), max_samples, np.int64)
        with KERNEL_LOCK:
            self._blocks = _occupied_blocks(self._cells)

    def on(
        self, rays: Int64[np.ndarray, "chosen"], most: int
    ) -> tuple[Float32[np.ndarray, "samples"], Int64[np.ndarray, "chosen"]]:
        """The next samples of some rays.

        Args:
            rays: which, each once.
            most: samples of each.

        Returns:
            Where they start, ray after ray, and how many each ray has.
        """
        counts, kept = np.empty(len(rays), np.int64), np.empty((len(rays), most), np.int32)
        with KERNEL_LOCK:
            _find(
                self._origins,
                self._directions,
                self._nears,
                self._fars,
                self._jitter,
                self._cells,
                self._blocks,
                self.step,
                rays,
                self._first,
                self.left,
                counts,
                kept,
            )
            starts = np.empty(counts.sum(), np.float32)
            _write(self._nears, self._jitter, self.step, rays, counts, np.cumsum(counts), kept, starts)
        return starts, counts


def intersect_box(
    origins: Float32[np.ndarray, "rays 3"],
    directions: Float32[np.ndarray, "rays 3"],
    low: Float32[np.ndarray, "3"],
    high: Float32[np.ndarray, "3"],
) -> tuple[Float32[np.ndarray, "rays"], Float32[np.ndarray, "rays"]]:
    """`ntalker_ns.rendering.marching.intersect_box_torch` in one pass over the rays."""
    near, far = (np.empty(len(origins), np.float32) for _ in range(2))
    with KERNEL_LOCK:
        _intersect(*(_contiguous(each) for each in (origins, directions, low, high)), near, far)  # pyright: ignore[reportCallIssue]
    return near, far


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


@njit(parallel=True, cache=True)
def _intersect(origins, directions, low, high, near, far):
    """Writes where rays enter and leave a box."""
    still = np.float32(STILL)
    for ray in prange(origins.shape[0]):
        enter, leave = np.float32(0), np.float32(np.inf)
        for axis in range(3):
            along, origin = directions[ray, axis], origins[ray, axis]
            along = still if abs(along) < still else along
            one, two = (low[axis] - origin) / along, (high[axis] - origin) / along
            enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
        near[ray], far[ray] = enter, max(enter, leave)


@njit(parallel=True, cache=True)
def _occupied_blocks(cells):
    """1 for each block with an open cell."""
    grid = cells.shape[0]
    size = (grid + BLOCK - 1) // BLOCK
    blocks = np.zeros((size, size, size), np.uint8)
    for a in prange(size):
        for x in range(a * BLOCK, min(a * BLOCK + BLOCK, grid)):
            for y in range(grid):
                for z in range(grid):
                    blocks[a, y >> BLOCK_SHIFT, z >> BLOCK_SHIFT] |= cells[x, y, z]
    return blocks


@njit(inline="always")
def _middle(near, jitter, step, k):
    """Distance to the middle of sample k, rounded operation by operation as torch rounds it."""
    start = near + (np.float32(k) + jitter) * step
    return start + np.float32(0.5) * step


@njit(inline="always")
def _exits(origin, direction, width, slack, far):
    """The distance at which a ray leaves slab c of such a width along one axis, as a and b of a + b c.

    It is taken `slack` early, so that rounding cannot pass it; a ray that does not move along the axis (less than 1e-30
    moves no float32) does not leave.
    """
    if abs(direction) <= 1e-30:
        return far, np.float32(0)
    inverse = np.float32(1) / direction
    side = width - slack if direction > 0 else slack
    return (side - np.float32(1) - origin) * inverse, width * inverse


@njit(inline="always")
def _first_of(a_x, b_x, x, a_y, b_y, y, a_z, b_z, z):
    """The nearest of the exits along three axes."""
    return min(a_x + b_x * np.float32(x), a_y + b_y * np.float32(y), a_z + b_z * np.float32(z))


@inner
def _walk(origins, directions, nears, fars, jitters, cells, blocks, step, ray, k, most, kept):
    """Writes which samples of a ray, from k on, lie in open cells, `most` at most.

    Returns their number and the sample to go on from, -1 at the end of the ray.
    """
    grid = cells.shape[0]
    one, edge = np.float32(1), np.float32(grid)
    cells_per_unit = np.float32(0.5 * grid)
    width, block_width = np.float32(2.0 / grid), np.float32(2.0 / grid * BLOCK)
    near, far, jitter = nears[ray], fars[ray], jitters[ray]
    origin_x, origin_y, origin_z = origins[ray, 0], origins[ray, 1], origins[ray, 2]
    direction_x, direction_y, direction_z = directions[ray, 0], directions[ray, 1], directions[ray, 2]
    slack = np.float32(SLACK) * (one + abs(origin_x) + abs(origin_y) + abs(origin_z) + abs(far))
    first_x, next_x = _exits(origin_x, direction_x, width, slack, far)
    first_y, next_y = _exits(origin_y, direction_y, width, slack, far)
    first_z, next_z = _exits(origin_z, direction_z, width, slack, far)
    block_x, past_x = _exits(origin_x, direction_x, block_width, slack, far)
    block_y, past_y = _exits(origin_y, direction_y, block_width, slack, far)
    block_z, past_z = _exits(origin_z, direction_z, block_width, slack, far)
    steps_per_unit = one / step
    count = 0
    while count < most:
        middle = _middle(near, jitter, step, k)
        if not middle < far:
            return count, -1
        place_x = (origin_x + middle * direction_x + one) * cells_per_unit
        place_y = (origin_y + middle * direction_y + one) * cells_per_unit
        place_z = (origin_z + middle * direction_z + one) * cells_per_unit
        inside = (place_x >= 0) & (place_x < edge) & (place_y >= 0) & (place_y < edge) & (place_z >= 0)
        if not inside & (place_z < edge):
            k += 1
            continue
        x, y, z = np.int32(place_x), np.int32(place_y), np.int32(place_z)
        if cells[x, y, z]:
            kept[count] = k
            count += 1
            k += 1
            continue
        a, b, c = x >> BLOCK_SHIFT, y >> BLOCK_SHIFT, z >> BLOCK_SHIFT
        if blocks[a, b, c]:
            leave = _first_of(first_x, next_x, x, first_y, next_y, y, first_z, next_z, z)
        else:
            leave = _first_of(block_x, past_x, a, block_y, past_y, b, block_z, past_z, c)
        # The samples that lie before the exit are as empty as this one.
        k += max(np.int64((min(leave, far) - middle) * steps_per_unit), 0) + 1
    return count, k


@njit(parallel=True, cache=True)
def _find(origins, directions, nears, fars, jitter, cells, blocks, step, rays, first, left, counts, kept):
    """Finds the next samples of some rays, `kept` says how many at most, and moves `first` and `left` on.

    `first` holds the sample that each ray goes on from, `left` how many it may still have; a ray at its end has none.
    """
    for i in prange(rays.shape[0]):
        ray = rays[i]
        most = min(left[ray], kept.shape[1])
        count, k = _walk(origins, directions, nears, fars, jitter, cells, blocks, step, ray, first[ray], most, kept[i])
        counts[i], first[ray] = count, k
        left[ray] = 0 if k < 0 else left[ray] - count


@njit(parallel=True, cache=True)
def _write(nears, jitter, step, rays, counts, ends, kept, starts):
    """Writes the starts of the i-th ray's samples before place `ends[i]`."""
    for i in prange(rays.shape[0]):
        ray, first = rays[i], ends[i] - counts[i]
        for sample in range(counts[i]):
            starts[first + sample] = nears[ray] + (np.float32(kept[i, sample]) + jitter[ray]) * step


def points_along(
    origins: Float32[np.ndarray, "rays 3"],
    directions: Float32[np.ndarray, "rays 3"],
    rays: Int64[np.ndarray, "samples"],
    distances: Float32[np.ndarray, "samples"],
) -> Float32[np.ndarray, "samples 3"]:
    """The points at distances along rays.

    Args:
        origins: (R, 3) world units.
        directions: (R, 3) unit vectors.
        rays: (S,) the ray of each point.
        distances: (S,) world units.
    """
    points = np.empty((len(rays), 3), np.float32)
    with KERNEL_LOCK:
        _points_along(_contiguous(origins), _contiguous(directions), rays, _contiguous(distances), points)
    return points


@njit(parallel=True, cache=True)
def _points_along(origins, directions, rays, distances, points):
    for i in prange(len(rays)):
        ray = rays[i]
        for axis in range(3):
            points[i, axis] = origins[ray, axis] + distances[i] * directions[ray, axis]
