"""Kernels of the multi-resolution hash grid, forward and backward, 2D and 3D.

Nothing of size points x levels x corners is ever stored. A thread takes a chunk of points through one level at a time,
in two steps: corners and fractions (vectorised over points, in the first-level cache), then the corners' values point
by point (`hash_grid_cells`). The forward pass and the coordinates' gradient run in parallel over chunks; for the
table's gradient each thread writes its own levels, which needs neither atomics nor private copies.

Arguments shared by the kernels:
    points: (N, dims) positions.
    table, output, gradient: (entries * features,), (N * levels * features,) twice: contiguous and flat.
    scales, offsets, sizes, dense: (levels,) of the `GridLayout`, `scales` being the resolutions in the type of the
        points.
    active: levels used; the others' features are zero.
    axes, lanes: tuples whose lengths are the numbers of axes and of features per entry: constants at compile time, so
        that loops over them are unrolled.
    between: a thread's `Between`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ntalker_ns.kernels.grid_layout import HASH_PRIMES
from ntalker_ns.kernels.numba.common import inner, kernel, lean
from ntalker_ns.kernels.numba.hash_grid_cells import add_shares, add_slopes, interpolate

CHUNK = 128
"""Points of a chunk: their intermediate values fit a first-level cache."""

ONE = np.uint32(1)
PRIME_Y = np.uint32(HASH_PRIMES[1])
PRIME_Z = np.uint32(HASH_PRIMES[2])


class Between(NamedTuple):
    """A thread's intermediate values of a chunk of points."""

    places: np.ndarray
    """(dims, CHUNK) coordinates."""
    corners: np.ndarray
    """(2^dims, CHUNK) entries within a level."""
    fractions: np.ndarray
    """(dims, CHUNK) position within the cell."""


@inner
def scratch(points, axes):
    """A thread's buffers for `encode`."""
    dims = len(axes)
    return Between(
        np.empty((dims, CHUNK), points.dtype),
        np.empty((1 << dims, CHUNK), np.uint32),
        np.empty((dims, CHUNK), points.dtype),
    )


@lean
def _arrange(points, first, count, axes, places):
    """Transposes a chunk's coordinates, clamped to [0, 1], so that they can be read as vectors."""
    for axis in range(len(axes)):
        for p in range(count):
            coordinate = points[first + p, axis]
            coordinate = points.dtype.type(0) if coordinate < 0 else coordinate
            places[axis, p] = points.dtype.type(1) if coordinate > 1 else coordinate


@njit(inline="always")
def _cell(place, scale):
    """The cell of a clamped coordinate, and the fraction within it; the far border and NaN go to the last cell."""
    last = scale - scale / scale
    scaled = place * scale
    cell = np.floor(scaled)
    cell = cell if cell < last else last
    return np.uint32(np.int32(cell)), scaled - cell


@lean
def _locate_2d(places, count, scale, size, dense, corners, fractions):
    """Entries of each point's four corners (x fastest) within the level, and its fractions."""
    if dense:
        stride = np.uint32(scale) + ONE
        for p in range(count):
            i, fractions[0, p] = _cell(places[0, p], scale)
            j, fractions[1, p] = _cell(places[1, p], scale)
            a = np.uint32(i + np.uint32(j * stride))
            b = np.uint32(a + stride)
            corners[0, p], corners[1, p] = a, a + ONE
            corners[2, p], corners[3, p] = b, b + ONE
    else:
        mask = np.uint32(size - 1)
        for p in range(count):
            i, fractions[0, p] = _cell(places[0, p], scale)
            j, fractions[1, p] = _cell(places[1, p], scale)
            i_next = np.uint32(i + ONE)
            a = np.uint32(j * PRIME_Y)
            b = np.uint32(a + PRIME_Y)
            corners[0, p], corners[1, p] = (i ^ a) & mask, (i_next ^ a) & mask
            corners[2, p], corners[3, p] = (i ^ b) & mask, (i_next ^ b) & mask


@lean
def _locate_3d(places, count, scale, size, dense, corners, fractions):
    """Entries of each point's eight corners (x fastest) within the level, and its fractions."""
    if dense:
        stride_y = np.uint32(scale) + ONE
        stride_z = np.uint32(stride_y * stride_y)
        for p in range(count):
            i, fractions[0, p] = _cell(places[0, p], scale)
            j, fractions[1, p] = _cell(places[1, p], scale)
            k, fractions[2, p] = _cell(places[2, p], scale)
            a = np.uint32(i + np.uint32(j * stride_y) + np.uint32(k * stride_z))
            b = np.uint32(a + stride_y)
            c = np.uint32(a + stride_z)
            d = np.uint32(c + stride_y)
            corners[0, p], corners[1, p] = a, a + ONE
            corners[2, p], corners[3, p] = b, b + ONE
            corners[4, p], corners[5, p] = c, c + ONE
            corners[6, p], corners[7, p] = d, d + ONE
    else:
        mask = np.uint32(size - 1)
        for p in range(count):
            i, fractions[0, p] = _cell(places[0, p], scale)
            j, fractions[1, p] = _cell(places[1, p], scale)
            k, fractions[2, p] = _cell(places[2, p], scale)
            i_next = np.uint32(i + ONE)
            y = np.uint32(j * PRIME_Y)
            z = np.uint32(k * PRIME_Z)
            y_next = np.uint32(y + PRIME_Y)
            z_next = np.uint32(z + PRIME_Z)
            a = y ^ z
            b = y_next ^ z
            c = y ^ z_next
            d = y_next ^ z_next
            corners[0, p], corners[1, p] = (i ^ a) & mask, (i_next ^ a) & mask
            corners[2, p], corners[3, p] = (i ^ b) & mask, (i_next ^ b) & mask
            corners[4, p], corners[5, p] = (i ^ c) & mask, (i_next ^ c) & mask
            corners[6, p], corners[7, p] = (i ^ d) & mask, (i_next ^ d) & mask


@lean
def _locate(between, count, scale, size, dense, axes):
    """Corners of each point of a chunk, and its fractions."""
    if len(axes) == 2:
        _locate_2d(between.places, count, scale, size, dense, between.corners, between.fractions)
    else:
        _locate_3d(between.places, count, scale, size, dense, between.corners, between.fractions)


@lean
def encode(points, first, count, between, output, table, scales, offsets, sizes, dense, active, axes, lanes):
    """Writes the features of a chunk of points."""
    features, width = len(lanes), len(scales) * len(lanes)
    _arrange(points, first, count, axes, between.places)
    for level in range(active):
        scale, size = scales[level], sizes[level]
        level_table = table[offsets[level] * features : (offsets[level] + size) * features]
        _locate(between, count, scale, size, dense[level], axes)
        for p in range(count):
            place = (first + p) * width + level * features
            interpolate(level_table, between.corners, between.fractions, p, axes, lanes, output, place)
    for p in range(first, first + count):
        output[p * width + active * features : (p + 1) * width] = 0


@kernel
def forward(points, table, scales, offsets, sizes, dense, active, axes, lanes, output):
    """Writes the features of points."""
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        count = min(CHUNK, points.shape[0] - first)
        between = scratch(points, axes)
        encode(points, first, count, between, output, table, scales, offsets, sizes, dense, active, axes, lanes)


@kernel
def table_gradient(points, gradient, scales, offsets, sizes, dense, active, axes, lanes, threads, output):
    """Writes the table's gradient into `output` (entries * features,)."""
    features, levels = len(lanes), len(scales)
    for thread in prange(threads):
        between = scratch(points, axes)
        # Every threads-th level, since coarse and fine ones cost differently.
        for level in range(thread, levels, threads):
            output[offsets[level] * features : (offsets[level] + sizes[level]) * features] = 0
        # All levels chunk by chunk, in the order of `gradient` in memory.
        for first in range(0, points.shape[0], CHUNK):
            count = min(CHUNK, points.shape[0] - first)
            _arrange(points, first, count, axes, between.places)
            for level in range(thread, active, threads):
                scale, size = scales[level], sizes[level]
                level_output = output[offsets[level] * features : (offsets[level] + size) * features]
                _locate(between, count, scale, size, dense[level], axes)
                for p in range(count):
                    place = ((first + p) * levels + level) * features
                    add_shares(level_output, between.corners, between.fractions, p, axes, lanes, gradient, place)


@lean
def chunk_slopes(
    points, first, count, between, slopes, gradient, table, scales, offsets, sizes, dense, active, axes, lanes, output
):
    """Writes the coordinates' gradient of a chunk of points into `output` (N, dims).

    `slopes` is a buffer of (CHUNK * dims * features,).
    """
    dims, features, levels = len(axes), len(lanes), len(scales)
    slopes[: count * dims * features] = 0
    _arrange(points, first, count, axes, between.places)
    for level in range(active):
        scale, size = scales[level], sizes[level]
        level_table = table[offsets[level] * features : (offsets[level] + size) * features]
        corners, fractions = between.corners, between.fractions
        _locate(between, count, scale, size, dense[level], axes)
        for p in range(count):
            place, row = ((first + p) * levels + level) * features, p * dims * features
            add_slopes(level_table, corners, fractions, p, axes, lanes, gradient, place, scale, slopes, row)
    for p in range(count):
        for axis in range(dims):
            output[first + p, axis] = 0
            # Clamped coordinates have no gradient.
            if not (points[first + p, axis] < 0 or points[first + p, axis] > 1):
                for lane in range(features):
                    output[first + p, axis] += slopes[(p * dims + axis) * features + lane]


@kernel
def coordinate_gradient(points, gradient, table, scales, offsets, sizes, dense, active, axes, lanes, output):
    """Writes the coordinates' gradient into `output` (N, dims)."""
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        count = min(CHUNK, points.shape[0] - first)
        between = scratch(points, axes)
        slopes = np.empty(CHUNK * len(axes) * len(lanes), points.dtype)
        shared = (scales, offsets, sizes, dense, active, axes, lanes)
        chunk_slopes(points, first, count, between, slopes, gradient, table, *shared, output)
