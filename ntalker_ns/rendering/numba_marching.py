"""Ray marching through an occupancy grid on the CPU: numba kernels that skip empty space, parallel over rays.

Importing this module imports numba; import it where rays are first marched.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numba import njit, prange

from ntalker_ns.encodings.numba_threads import KERNEL_LOCK

BLOCK_SHIFT = 3
BLOCK = 1 << BLOCK_SHIFT
"""Cells along an edge of the blocks that are skipped as a whole where all their cells are empty."""

SLACK = 4e-6
"""Several times the rounding of a position in float32, relative to the lengths it is computed from."""


def march(
    origins: Float32[np.ndarray, "rays 3"],
    directions: Float32[np.ndarray, "rays 3"],
    nears: Float32[np.ndarray, "rays"],
    fars: Float32[np.ndarray, "rays"],
    occupied: Bool[np.ndarray, "grid grid grid"],
    step: float,
    jitter: Float32[np.ndarray, "rays"],
    max_samples: int,
) -> tuple[Float32[np.ndarray, "samples"], Float32[np.ndarray, "samples"], Int64[np.ndarray, "rays"]]:
    """Finds the samples of each ray that lie in occupied cells: t_k = near + (k + jitter) step, middle before far.

    The same samples, to the last bit, as asking every k (`march_torch`): empty cells and blocks are left in one
    stride, but never off the lattice of samples.

    Args:
        origins: (R, 3) world units.
        directions: (R, 3) unit vectors.
        nears: (R,) distance at which the lattice begins, world units.
        fars: (R,) distance that the middles of samples stay below, world units.
        occupied: (G, G, G) open cells of the box [-1, 1]^3, indexed x, y, z.
        step: length of a sample, world units, above 0.
        jitter: (R,) shift of each ray's lattice, in steps, in [0, 1).
        max_samples: samples kept of a ray at most, the first ones.

    Returns:
        Starts (S,) and ends (S,) of the samples, ray after ray and front to back, and samples of each ray (R,).
    """
    origins, directions = _contiguous(origins), _contiguous(directions)
    nears, fars, jitter = _contiguous(nears), _contiguous(fars), _contiguous(jitter)
    cells = np.ascontiguousarray(occupied).view(np.uint8)
    length = np.float32(step)
    counts, first_steps = np.empty(len(nears), np.int64), np.empty(len(nears), np.int64)
    with KERNEL_LOCK:
        blocks = _occupied_blocks(cells)
        lattice = (origins, directions, nears, fars, jitter, cells, blocks, length)
        _count(*lattice, max_samples, counts, first_steps)
        ends = np.cumsum(counts)
        starts = np.empty(counts.sum(), np.float32)
        _write(*lattice, counts, ends, first_steps, starts)
    return starts, starts + length, counts


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


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
def _inverse(direction):
    """One over a direction, or 0 where a ray does not move along the axis: less than 1e-30 moves no float32."""
    return np.float32(1) / direction if abs(direction) > 1e-30 else np.float32(0)


@njit(inline="always")
def _exit(origin, inverse, cell, width, slack):
    """Distance at which a ray leaves a slab of cells, taken `slack` early, so that rounding cannot pass it."""
    if inverse > 0:
        return (np.float32(cell + 1) * width - (np.float32(1) + slack) - origin) * inverse
    return (np.float32(cell) * width - (np.float32(1) - slack) - origin) * inverse


@njit(inline="always")
def _cell(origin, direction, middle, cells_per_unit):
    """The cell of a point of a ray along one axis, as `_next_kept` finds it."""
    return np.int64(np.floor((origin + middle * direction + np.float32(1)) * cells_per_unit))


@njit
def _next_kept(origins, directions, nears, fars, jitters, cells, blocks, step, ray, k):
    """The first sample of a ray from k on in an open cell, or -1."""
    grid = cells.shape[0]
    one = np.float32(1)
    cells_per_unit = np.float32(0.5 * grid)
    cell_width = np.float32(2.0 / grid)
    block_width = cell_width * np.float32(BLOCK)
    near, far, jitter = nears[ray], fars[ray], jitters[ray]
    origin_x, origin_y, origin_z = origins[ray, 0], origins[ray, 1], origins[ray, 2]
    direction_x, direction_y, direction_z = directions[ray, 0], directions[ray, 1], directions[ray, 2]
    inverse_x = _inverse(direction_x)
    inverse_y = _inverse(direction_y)
    inverse_z = _inverse(direction_z)
    slack = np.float32(SLACK) * (one + abs(origin_x) + abs(origin_y) + abs(origin_z) + abs(far))
    steps_per_unit = one / step
    while True:
        middle = _middle(near, jitter, step, k)
        if not middle < far:
            return -1
        x = _cell(origin_x, direction_x, middle, cells_per_unit)
        y = _cell(origin_y, direction_y, middle, cells_per_unit)
        z = _cell(origin_z, direction_z, middle, cells_per_unit)
        if x < 0 or y < 0 or z < 0 or x >= grid or y >= grid or z >= grid:
            k += 1
            continue
        if cells[x, y, z]:
            return k
        width = cell_width
        if not blocks[x >> BLOCK_SHIFT, y >> BLOCK_SHIFT, z >> BLOCK_SHIFT]:
            x, y, z, width = x >> BLOCK_SHIFT, y >> BLOCK_SHIFT, z >> BLOCK_SHIFT, block_width
        leave = far
        if inverse_x != 0:
            leave = min(leave, _exit(origin_x, inverse_x, x, width, slack))
        if inverse_y != 0:
            leave = min(leave, _exit(origin_y, inverse_y, y, width, slack))
        if inverse_z != 0:
            leave = min(leave, _exit(origin_z, inverse_z, z, width, slack))
        # The samples that lie before the exit are as empty as this one.
        k += max(np.int64((leave - middle) * steps_per_unit), 0) + 1


@njit(parallel=True, cache=True)
def _count(
    origins,
    directions,
    nears,
    fars,
    jitter,
    cells,
    blocks,
    step,
    max_samples,
    counts,
    first_steps,
):
    """Counts each ray's samples, and notes the first."""
    for ray in prange(nears.shape[0]):
        count = 0
        k = 0
        first_steps[ray] = 0
        while count < max_samples:
            k = _next_kept(origins, directions, nears, fars, jitter, cells, blocks, step, ray, k)
            if k < 0:
                break
            if count == 0:
                first_steps[ray] = k
            count += 1
            k += 1
        counts[ray] = count


@njit(parallel=True, cache=True)
def _write(origins, directions, nears, fars, jitter, cells, blocks, step, counts, ends, first_steps, starts):
    """Writes the starts of each ray's samples before place `ends[ray]`."""
    for ray in prange(nears.shape[0]):
        k = first_steps[ray]
        for place in range(ends[ray] - counts[ray], ends[ray]):
            k = _next_kept(origins, directions, nears, fars, jitter, cells, blocks, step, ray, k)
            starts[place] = nears[ray] + (np.float32(k) + jitter[ray]) * step
            k += 1
