"""Ray marching through an occupancy grid on the CPU, parallel over rays.

The next few steps of a ray are tested at once, in vector registers, whatever they hold. Skipping empty cells instead
takes a few unpredictable branches per skip, and two to three times as long.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import get_num_threads, njit, prange
from torch import Tensor

from ntalker_ns.kernels import types
from ntalker_ns.kernels.numba.common import KERNEL_LOCK, inner
from ntalker_ns.kernels.types import MIN_DIRECTION, MarchInput, RaySamples

STEPS = 32
"""Steps of a ray that are tested at once."""


def march(given: MarchInput) -> RaySamples:
    """See `kernels.reference.marching.march`: the same samples to the last bit."""
    starts, counts = IncrementalMarch(given).next(torch.arange(len(given.near)), given.max_samples)
    return RaySamples(starts, counts)


def incremental_march(given: MarchInput) -> types.IncrementalMarch:
    """See `kernels.reference.marching.incremental_march`; samples that are never requested are never searched for."""
    return IncrementalMarch(given)


class IncrementalMarch:
    """See `kernels.types.IncrementalMarch`."""

    def __init__(self, given: MarchInput) -> None:
        """
        Args:
            given: the rays, float32.
        """
        rays = (given.origins, given.directions, given.near, given.far, given.jitter)
        self._rays = tuple(_array(each) for each in rays)
        self._cells = np.ascontiguousarray(given.occupied.numpy()).view(np.uint8).reshape(-1)
        self._grid, self._step = len(given.occupied), np.float32(given.step)
        self._first = np.zeros(len(given.near), np.int64)
        self.left = torch.full((len(given.near),), given.max_samples)

    def next(self, rays: Int[Tensor, "some"], count: int) -> tuple[Float[Tensor, "samples"], Int[Tensor, "some"]]:
        """See `kernels.types.IncrementalMarch.next`."""
        some, left = rays.numpy(), self.left.numpy()
        counts, kept = np.empty(len(some), np.int64), np.empty((len(some), count), np.int32)
        cells = (self._cells, self._grid, self._step)
        near, jitter = self._rays[2], self._rays[4]
        with KERNEL_LOCK:
            _find(*self._rays, *cells, some, self._first, left, get_num_threads(), counts, kept)  # pyright: ignore[reportCallIssue]
            starts = np.empty(counts.sum(), np.float32)
            _write(near, jitter, self._step, some, counts, np.cumsum(counts), kept, starts)
        return torch.from_numpy(starts), torch.from_numpy(counts)


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """See `kernels.reference.marching.intersect_box`; float32."""
    near, far = (np.empty(len(origins), np.float32) for _ in range(2))
    bounds = (np.ascontiguousarray(np.broadcast_to(np.asarray(each, np.float32), 3)) for each in (low, high))
    with KERNEL_LOCK:
        _intersect(_array(origins), _array(directions), *bounds, near, far)  # pyright: ignore[reportCallIssue]
    return torch.from_numpy(near), torch.from_numpy(far)


def points_along(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    rays: Int[Tensor, "samples"],
    distances: Float[Tensor, "samples"],
) -> Float[Tensor, "samples 3"]:
    """See `kernels.reference.marching.points_along`; float32."""
    points = np.empty((len(rays), 3), np.float32)
    with KERNEL_LOCK:
        _points_along(_array(origins), _array(directions), rays.numpy(), _array(distances), points)
    return torch.from_numpy(points)


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().numpy(), np.float32)


@njit(parallel=True, cache=True)
def _intersect(origins, directions, low, high, near, far):
    """Writes where rays enter and leave a box."""
    least = np.float32(MIN_DIRECTION)
    for ray in prange(origins.shape[0]):
        enter, leave = np.float32(0), np.float32(np.inf)
        for axis in range(3):
            along, origin = directions[ray, axis], origins[ray, axis]
            along = least if abs(along) < least else along
            one, two = (low[axis] - origin) / along, (high[axis] - origin) / along
            enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
        near[ray], far[ray] = enter, max(enter, leave)


@njit(inline="always")
def _middle(near, jitter, step, k):
    """Distance to the middle of step k, rounded operation by operation as torch rounds it."""
    start = near + (np.float32(k) + jitter) * step
    return start + np.float32(0.5) * step


@inner
def _cells_at(origin, direction, near, far, jitter, step, grid, first, found):
    """Writes the cell of each step from the first on, counted from 1; 0 outside the box and past the end.

    Without branches, so that the compiler vectorises it.
    """
    one, edge, per_unit, size = np.float32(1), np.float32(grid), np.float32(0.5 * grid), np.int32(grid)
    origin_x, origin_y, origin_z = origin[0], origin[1], origin[2]
    direction_x, direction_y, direction_z = direction[0], direction[1], direction[2]
    for i in range(STEPS):
        middle = _middle(near, jitter, step, first + np.int32(i))
        x = (origin_x + middle * direction_x + one) * per_unit
        y = (origin_y + middle * direction_y + one) * per_unit
        z = (origin_z + middle * direction_z + one) * per_unit
        inside = (x >= 0) & (x < edge) & (y >= 0) & (y < edge) & (z >= 0) & (z < edge) & (middle < far)
        cell = (np.int32(x) * size + np.int32(y)) * size + np.int32(z)
        found[i] = (cell + np.int32(1)) * np.int32(inside)


@inner
def _march_ray(origin, direction, near, far, jitter, cells, grid, step, k, most, found, kept):
    """Writes which steps of a ray, from k on, lie in occupied cells, `most` at most.

    Returns their number and the step to go on from, -1 at the end of the ray.
    """
    count = 0
    while count < most:
        if not _middle(near, jitter, step, k) < far:
            return count, -1
        _cells_at(origin, direction, near, far, jitter, step, grid, np.int32(k), found)
        for i in range(STEPS):
            if count == most:
                return count, k + i
            kept[count] = k + i
            cell = found[i]
            count += cells[np.uint32(max(cell, 1) - 1)] & np.uint8(cell > 0)
        k += STEPS
    return count, k


@njit(parallel=True, cache=True)
def _find(origins, directions, nears, fars, jitter, cells, grid, step, rays, first, left, threads, counts, kept):
    """Finds the next samples of some rays, as many as `kept` has columns at most, and updates `first` and `left`.

    `first` holds the step that each ray goes on from, `left` how many samples it may still have, 0 at its end.
    """
    for thread in prange(threads):
        found = np.empty(STEPS, np.int32)
        for i in range(len(rays) * thread // threads, len(rays) * (thread + 1) // threads):
            ray = rays[i]
            march = (origins[ray], directions[ray], nears[ray], fars[ray], jitter[ray], cells, grid, step)
            most = min(left[ray], kept.shape[1])
            count, k = _march_ray(*march, first[ray], most, found, kept[i])
            counts[i], first[ray] = count, k
            left[ray] = 0 if k < 0 else left[ray] - count


@njit(parallel=True, cache=True)
def _write(nears, jitter, step, rays, counts, ends, kept, starts):
    """Writes the starts of the i-th ray's samples before index `ends[i]`."""
    for i in prange(rays.shape[0]):
        ray, first = rays[i], ends[i] - counts[i]
        for sample in range(counts[i]):
            starts[first + sample] = nears[ray] + (np.float32(kept[i, sample]) + jitter[ray]) * step


@njit(parallel=True, cache=True)
def _points_along(origins, directions, rays, distances, points):
    for i in prange(len(rays)):
        ray = rays[i]
        for axis in range(3):
            points[i, axis] = origins[ray, axis] + distances[i] * directions[ray, axis]
