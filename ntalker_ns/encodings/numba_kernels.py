"""Fused numba kernels of the multi-resolution hash grid, forward and backward, 2D and 3D.

Nothing of size points x levels x corners is ever stored. A thread takes a chunk of points through one level at a
time, in four steps whose scratch stays in its first-level cache: find the corners and fractions (vectorised over
points), fetch the corners' features (the only scattered step), blend them (vectorised), store the result. The
forward pass and the coordinates' gradient run in parallel over chunks; the table's gradient runs in parallel over
levels, so that every table entry is written by one thread only and neither atomics nor private copies are needed.

Arguments shared by the kernels:
    points: (N, dims) positions.
    table, output, gradient: features as machine words (`numba_backend`): moving two float32 at once halves the
        memory operations.
    scales, offsets, sizes, dense: (levels,) of the `GridLayout`, `scales` being the resolutions in the type of the
        points.
    active: levels used; the others' features are zero.
    axes, lanes, words: tuples as long as there are axes, features of an entry, and words of an entry. The compiler
        knows a tuple's length, so it unrolls the loops over it.
"""

import numpy as np
from numba import njit, prange

from ntalker_ns.encodings.layout import HASH_PRIMES

CHUNK = 128
"""Points that go through a level together: their scratch fits a first-level cache."""

# Neither "nnan" nor "ninf": a coordinate that is not a number must reach the output, never an address.
FASTMATH = {"contract", "reassoc", "nsz"}

ONE = np.uint32(1)
PRIME_Y = np.uint32(HASH_PRIMES[1])
PRIME_Z = np.uint32(HASH_PRIMES[2])


@njit(inline="always")
def _cell(coordinate, scale):
    """The cell of a clamped coordinate, and the fraction within it; the far border and NaN go to the last cell."""
    one = scale / scale
    zero = one - one
    coordinate = zero if coordinate < zero else coordinate
    coordinate = one if coordinate > one else coordinate
    scaled = coordinate * scale
    cell = np.floor(scaled)
    cell = cell if cell < scale - one else scale - one
    return np.uint32(np.int32(cell)), scaled - cell


@njit(fastmath=FASTMATH)
def _locate_2d(points, first, count, scale, size, dense, corners, fractions):
    """Entries of each point's four corners (x fastest) within the level, and its fractions."""
    if dense:
        stride = np.uint32(scale) + ONE
        for p in range(count):
            i, fractions[0, p] = _cell(points[first + p, 0], scale)
            j, fractions[1, p] = _cell(points[first + p, 1], scale)
            a = np.uint32(i + np.uint32(j * stride))
            b = np.uint32(a + stride)
            corners[0, p], corners[1, p] = a, a + ONE
            corners[2, p], corners[3, p] = b, b + ONE
    else:
        mask = np.uint32(size - 1)
        for p in range(count):
            i, fractions[0, p] = _cell(points[first + p, 0], scale)
            j, fractions[1, p] = _cell(points[first + p, 1], scale)
            i_next = np.uint32(i + ONE)
            a = np.uint32(j * PRIME_Y)
            b = np.uint32(a + PRIME_Y)
            corners[0, p], corners[1, p] = (i ^ a) & mask, (i_next ^ a) & mask
            corners[2, p], corners[3, p] = (i ^ b) & mask, (i_next ^ b) & mask


@njit(fastmath=FASTMATH)
def _locate_3d(points, first, count, scale, size, dense, corners, fractions):
    """Entries of each point's eight corners (x fastest) within the level, and its fractions."""
    if dense:
        stride_y = np.uint32(scale) + ONE
        stride_z = np.uint32(stride_y * stride_y)
        for p in range(count):
            i, fractions[0, p] = _cell(points[first + p, 0], scale)
            j, fractions[1, p] = _cell(points[first + p, 1], scale)
            k, fractions[2, p] = _cell(points[first + p, 2], scale)
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
            i, fractions[0, p] = _cell(points[first + p, 0], scale)
            j, fractions[1, p] = _cell(points[first + p, 1], scale)
            k, fractions[2, p] = _cell(points[first + p, 2], scale)
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


@njit(fastmath=FASTMATH)
def _locate(points, first, count, scale, size, dense, axes, lanes, corners, fractions, weights):
    """Corners of each point, and its fractions repeated for each feature."""
    if len(axes) == 2:
        _locate_2d(points, first, count, scale, size, dense, corners, fractions)
    else:
        _locate_3d(points, first, count, scale, size, dense, corners, fractions)
    for axis in range(len(axes)):
        for p in range(count):
            for lane in range(len(lanes)):
                weights[axis, p * len(lanes) + lane] = fractions[axis, p]


@njit(inline="always")
def _fetch(level_table, corners, count, axes, words, fetched):
    """Copies the features of all corners beside each other."""
    for p in range(count):
        for corner in range(1 << len(axes)):
            for word in range(len(words)):
                source = corners[corner, p] * np.uint32(len(words)) + np.uint32(word)
                fetched[corner, p * len(words) + word] = level_table[source]


@njit(fastmath=FASTMATH)
def _blend(corners, weights, dims, size, blended):
    """Interpolates between the corners' features, `size` values side by side."""
    if dims == 2:
        for q in range(size):
            x, y = weights[0, q], weights[1, q]
            a = corners[0, q] + x * (corners[1, q] - corners[0, q])
            b = corners[2, q] + x * (corners[3, q] - corners[2, q])
            blended[q] = a + y * (b - a)
    else:
        for q in range(size):
            x, y, z = weights[0, q], weights[1, q], weights[2, q]
            a = corners[0, q] + x * (corners[1, q] - corners[0, q])
            b = corners[2, q] + x * (corners[3, q] - corners[2, q])
            c = corners[4, q] + x * (corners[5, q] - corners[4, q])
            d = corners[6, q] + x * (corners[7, q] - corners[6, q])
            near = a + y * (b - a)
            far = c + y * (d - c)
            blended[q] = near + z * (far - near)


@njit(fastmath=FASTMATH)
def _spread(gradient, weights, dims, size, corners):
    """The transpose of `_blend`: each corner's share of a gradient."""
    if dims == 2:
        for q in range(size):
            x, y = weights[0, q], weights[1, q]
            b = y * gradient[q]
            a = gradient[q] - b
            corners[0, q], corners[1, q] = a - x * a, x * a
            corners[2, q], corners[3, q] = b - x * b, x * b
    else:
        for q in range(size):
            x, y, z = weights[0, q], weights[1, q], weights[2, q]
            far = z * gradient[q]
            near = gradient[q] - far
            b, d = y * near, y * far
            a, c = near - b, far - d
            corners[0, q], corners[1, q] = a - x * a, x * a
            corners[2, q], corners[3, q] = b - x * b, x * b
            corners[4, q], corners[5, q] = c - x * c, x * c
            corners[6, q], corners[7, q] = d - x * d, x * d


@njit(fastmath=FASTMATH)
def _add_slopes(corners, gradient, weights, scale, dims, size, slopes):
    """Adds gradient times the derivative of `_blend` along each axis, still one value for each feature."""
    if dims == 2:
        for q in range(size):
            x, y, g = weights[0, q], weights[1, q], gradient[q] * scale
            a_x = corners[1, q] - corners[0, q]
            b_x = corners[3, q] - corners[2, q]
            slopes[0, q] += g * (a_x + y * (b_x - a_x))
            slopes[1, q] += g * (corners[2, q] + x * b_x - corners[0, q] - x * a_x)
    else:
        for q in range(size):
            x, y, z, g = weights[0, q], weights[1, q], weights[2, q], gradient[q] * scale
            a_x = corners[1, q] - corners[0, q]
            b_x = corners[3, q] - corners[2, q]
            c_x = corners[5, q] - corners[4, q]
            d_x = corners[7, q] - corners[6, q]
            a, b = corners[0, q] + x * a_x, corners[2, q] + x * b_x
            c, d = corners[4, q] + x * c_x, corners[6, q] + x * d_x
            near_x = a_x + y * (b_x - a_x)
            far_x = c_x + y * (d_x - c_x)
            near_y, far_y = b - a, d - c
            slopes[0, q] += g * (near_x + z * (far_x - near_x))
            slopes[1, q] += g * (near_y + z * (far_y - near_y))
            slopes[2, q] += g * (c + y * far_y - a - y * near_y)


@njit
def scratch(points, table, axes, lanes, words):
    """What `encode` writes in between: corners, fractions, weights, fetched and blended features of a chunk."""
    dims = len(axes)
    return (
        np.empty((1 << dims, CHUNK), np.uint32),
        np.empty((dims, CHUNK), points.dtype),
        np.empty((dims, CHUNK * len(lanes)), points.dtype),
        np.empty((1 << dims, CHUNK * len(words)), table.dtype),
        np.empty(CHUNK * len(words), table.dtype),
    )


@njit(fastmath=FASTMATH)
def encode(points, first, count, between, output, table, scales, offsets, sizes, dense, active, axes, lanes, words):
    """Writes the features of a chunk of points into their rows of `output` (N, levels * words)."""
    corners, fractions, weights, fetched, blended = between
    output[first : first + count, active * len(words) :] = 0
    for level in range(active):
        scale, size = scales[level], sizes[level]
        level_table = table[offsets[level] * len(words) : (offsets[level] + size) * len(words)]
        _locate(points, first, count, scale, size, dense[level], axes, lanes, corners, fractions, weights)
        _fetch(level_table, corners, count, axes, words, fetched)
        _blend(fetched.view(points.dtype), weights, len(axes), count * len(lanes), blended.view(points.dtype))
        for p in range(count):
            for word in range(len(words)):
                output[first + p, level * len(words) + word] = blended[p * len(words) + word]


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def forward(points, table, scales, offsets, sizes, dense, active, axes, lanes, words, output):
    """Writes the features of points into `output` (N, levels * words)."""
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        count = min(CHUNK, points.shape[0] - first)
        between = scratch(points, table, axes, lanes, words)
        encode(points, first, count, between, output, table, scales, offsets, sizes, dense, active, axes, lanes, words)


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def table_gradient(points, gradient, scales, offsets, sizes, dense, active, axes, lanes, words, threads, output):
    """Writes the table's gradient into `output` (entries * features,), from `gradient` (N, levels * words)."""
    dims, levels = len(axes), scales.shape[0]
    for thread in prange(threads):
        corners = np.empty((1 << dims, CHUNK), np.uint32)
        fractions = np.empty((dims, CHUNK), points.dtype)
        weights = np.empty((dims, CHUNK * len(lanes)), points.dtype)
        shares = np.empty((1 << dims, CHUNK * len(lanes)), points.dtype)
        incoming = np.empty(CHUNK * len(words), gradient.dtype)
        # Every threads-th level: coarse and fine ones, which cost differently, are dealt out evenly.
        for level in range(thread, levels, threads):
            scale, size = scales[level], sizes[level]
            level_output = output[offsets[level] * len(lanes) : (offsets[level] + size) * len(lanes)]
            level_output[:] = 0
            for first in range(0, points.shape[0] if level < active else 0, CHUNK):
                count = min(CHUNK, points.shape[0] - first)
                _locate(points, first, count, scale, size, dense[level], axes, lanes, corners, fractions, weights)
                _take(gradient, first, count, level, words, incoming)
                _spread(incoming.view(points.dtype), weights, dims, count * len(lanes), shares)
                for p in range(count):
                    for corner in range(1 << len(axes)):
                        entry = corners[corner, p] * np.uint32(len(lanes))
                        for lane in range(len(lanes)):
                            level_output[entry + np.uint32(lane)] += shares[corner, p * len(lanes) + lane]


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def coordinate_gradient(points, gradient, table, scales, offsets, sizes, dense, active, axes, lanes, words, output):
    """Writes the coordinates' gradient into `output` (N, dims), from `gradient` (N, levels * words)."""
    dims = len(axes)
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        count = min(CHUNK, points.shape[0] - first)
        corners = np.empty((1 << dims, CHUNK), np.uint32)
        fractions = np.empty((dims, CHUNK), points.dtype)
        weights = np.empty((dims, CHUNK * len(lanes)), points.dtype)
        fetched = np.empty((1 << dims, CHUNK * len(words)), table.dtype)
        incoming = np.empty(CHUNK * len(words), table.dtype)
        slopes = np.zeros((dims, CHUNK * len(lanes)), points.dtype)
        for level in range(active):
            scale, size = scales[level], sizes[level]
            level_table = table[offsets[level] * len(words) : (offsets[level] + size) * len(words)]
            _locate(points, first, count, scale, size, dense[level], axes, lanes, corners, fractions, weights)
            _fetch(level_table, corners, count, axes, words, fetched)
            _take(gradient, first, count, level, words, incoming)
            _add_slopes(
                fetched.view(points.dtype),
                incoming.view(points.dtype),
                weights,
                scale,
                dims,
                count * len(lanes),
                slopes,
            )
        for p in range(count):
            for axis in range(dims):
                output[first + p, axis] = 0
                # A clamped coordinate does not move its features.
                if not (points[first + p, axis] < 0 or points[first + p, axis] > 1):
                    for lane in range(len(lanes)):
                        output[first + p, axis] += slopes[axis, p * len(lanes) + lane]


@njit(fastmath=FASTMATH)
def _take(gradient, first, count, level, words, taken):
    """Copies one level's columns of a gradient beside each other."""
    for p in range(count):
        for word in range(len(words)):
            taken[p * len(words) + word] = gradient[first + p, level * len(words) + word]
