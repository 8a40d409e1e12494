"""Ray marching through an occupancy grid on the CPU: numba kernels, parallel over rays.

A ray is asked at the next few places of its lattice at once, in vector registers, whatever they hold: to stride over
empty cells instead takes a few branches a stride that no processor foresees, and two to three times as long.

Importing this module imports numba; import it where rays are first marched.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numba import get_num_threads, njit, prange

from ntalker_ns.kernels.lattice import STILL
from ntalker_ns.kernels.numba.common import KERNEL_LOCK, inner

PLACES = 32
"""Places of a ray's lattice that are asked at once."""


class Walk:
    """Rays that are marched a few samples at a time: those that lie in occupied cells, t_k = near + (k + jitter) step,
    middle before far.

    The same samples, to the last bit, as `march_torch` finds.
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
        """For the arguments, see `ntalker_ns.kernels.lattice.Lattice`."""
        self._origins, self._directions = _contiguous(origins), _contiguous(directions)
        self._nears, self._fars, self._jitter = _contiguous(nears), _contiguous(fars), _contiguous(jitter)
        self._cells, self._grid = np.ascontiguousarray(occupied).view(np.uint8).reshape(-1), len(occupied)
        self.step = np.float32(step)
        self._first = np.zeros(len(nears), np.int64)
        self.left = np.full(len(nears), max_samples, np.int64)

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
                self._grid,
                self.step,
                rays,
                self._first,
                self.left,
                get_num_threads(),
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
    """`ntalker_ns.kernels.reference.marching.intersect_box_torch` in one pass over the rays."""
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


@njit(inline="always")
def _middle(near, jitter, step, k):
    """Distance to the middle of sample k, rounded operation by operation as torch rounds it."""
    start = near + (np.float32(k) + jitter) * step
    return start + np.float32(0.5) * step


@inner
def _cells_at(origin, direction, near, far, jitter, step, grid, first, found):
    """Writes in which cell each sample from the first on lies, counted from 1; 0 outside the box and past the end.

    Without branches, so that the compiler takes many at once.
    """
    one, edge, per_unit, size = np.float32(1), np.float32(grid), np.float32(0.5 * grid), np.int32(grid)
    origin_x, origin_y, origin_z = origin[0], origin[1], origin[2]
    direction_x, direction_y, direction_z = direction[0], direction[1], direction[2]
    for i in range(PLACES):
        middle = _middle(near, jitter, step, first + np.int32(i))
        x = (origin_x + middle * direction_x + one) * per_unit
        y = (origin_y + middle * direction_y + one) * per_unit
        z = (origin_z + middle * direction_z + one) * per_unit
        inside = (x >= 0) & (x < edge) & (y >= 0) & (y < edge) & (z >= 0) & (z < edge) & (middle < far)
        cell = (np.int32(x) * size + np.int32(y)) * size + np.int32(z)
        found[i] = (cell + np.int32(1)) * np.int32(inside)


@inner
def _walk(origin, direction, near, far, jitter, cells, grid, step, k, most, found, kept):
    """Writes which samples of a ray, from k on, lie in open cells, `most` at most.

    Returns their number and the sample to go on from, -1 at the end of the ray.
    """
    count = 0
    while count < most:
        if not _middle(near, jitter, step, k) < far:
            return count, -1
        _cells_at(origin, direction, near, far, jitter, step, grid, np.int32(k), found)
        for i in range(PLACES):
            if count == most:
                return count, k + i
            kept[count] = k + i
            cell = found[i]
            count += cells[np.uint32(max(cell, 1) - 1)] & np.uint8(cell > 0)
        k += PLACES
    return count, k


@njit(parallel=True, cache=True)
def _find(origins, directions, nears, fars, jitter, cells, grid, step, rays, first, left, threads, counts, kept):
    """Finds the next samples of some rays, `kept` says how many at most, and moves `first` and `left` on.

    `first` holds the sample that each ray goes on from, `left` how many it may still have; a ray at its end has none.
    """
    for thread in prange(threads):
        found = np.empty(PLACES, np.int32)
        for i in range(len(rays) * thread // threads, len(rays) * (thread + 1) // threads):
            ray = rays[i]
            lattice = (origins[ray], directions[ray], nears[ray], fars[ray], jitter[ray], cells, grid, step)
            most = min(left[ray], kept.shape[1])
            count, k = _walk(*lattice, first[ray], most, found, kept[i])
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
