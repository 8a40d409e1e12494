"""Triton kernels of the multi-resolution hash grid, forward and backward, 2D and 3D, all levels in one launch.

A program takes a tile of points (rows) by features of all levels (columns) through the corners of their cells.
Neighbouring lanes hold the features of one point, so that what is stored lies side by side and the features of an
entry are fetched together; nothing of size points x levels x corners is ever stored.

Arguments shared by the kernels:
    points: (N, DIMS) positions, float32 or float64; everything is computed in their type.
    table: (entries, FEATURES) features of all levels.
    levels: (4, levels) int32 rows of each level's resolution, first entry, size - 1 and whether it is dense.
    gradient, output: (N, WIDTH), WIDTH being levels x FEATURES.
    num_points: N.
    active_width: columns of the levels that are used, coarse first.
    PADDED, ROWS: columns and rows of a tile, powers of two.
"""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
import triton
import triton.language as tl

from ntalker_ns.kernels.grid_layout import HASH_PRIMES

PRIME_Y = tl.constexpr(HASH_PRIMES[1])
PRIME_Z = tl.constexpr(HASH_PRIMES[2])


@triton.jit
def _cell(points, row, column_scale, num_points, axis: tl.constexpr, DIMS: tl.constexpr):
    """The cell of a clamped coordinate, the fraction within it, and where the coordinate was not clamped."""
    coordinate = tl.load(points + row * DIMS + axis, mask=row < num_points, other=0)
    clamped = tl.where(coordinate < 0, 0.0, coordinate)
    clamped = tl.where(clamped > 1, 1.0, clamped).to(coordinate.dtype)
    scaled = clamped * column_scale
    cell = tl.floor(scaled)
    # The far border belongs to the last cell, so that no vertex beyond it is read; so does NaN, which then shows in
    # the features and not in an address.
    cell = tl.where(cell < column_scale - 1, cell, column_scale - 1)
    free = (coordinate == clamped) | (coordinate != coordinate)
    return cell.to(tl.int32).to(tl.uint32), scaled - cell, free


@triton.jit
def _level(points, levels, column, FEATURES: tl.constexpr, WIDTH: tl.constexpr):
    """Of each column: resolution, the same in the points' type, first entry, size - 1, density, and whether it is."""
    LEVELS: tl.constexpr = WIDTH // FEATURES
    level = tl.where(column < WIDTH, column // FEATURES, 0)
    resolution = tl.load(levels + level)
    first = tl.load(levels + LEVELS + level)
    last = tl.load(levels + 2 * LEVELS + level)
    dense = tl.load(levels + 3 * LEVELS + level) != 0
    return resolution.to(points.dtype.element_ty), resolution.to(tl.uint32) + 1, first, last.to(tl.uint32), dense


@triton.jit
def _entry(x, y, z, stride, first, last, dense, corner: tl.constexpr, DIMS: tl.constexpr):
    """The table entry of one corner of a cell; bit a of `corner` is set for the far one along axis a."""
    x = x + (corner & 1)
    y = y + ((corner >> 1) & 1)
    ordered = x + y * stride
    hashed = x ^ (y * PRIME_Y)
    if DIMS == 3:
        z = z + ((corner >> 2) & 1)
        ordered += z * stride * stride
        hashed = hashed ^ (z * PRIME_Z)
    return first.to(tl.int64) + tl.where(dense, ordered, hashed & last).to(tl.int64)


@triton.jit
def _share(fraction, far: tl.constexpr):
    """How much of a cell's far or near side an axis takes."""
    return fraction if far else 1 - fraction


@triton.jit(do_not_specialize=["num_points", "active_width"])
def hash_grid_forward(
    points,
    table,
    levels,
    output,
    num_points,
    active_width,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Writes the features of points into `output`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    scale, stride, first, last, dense = _level(points, levels, column, FEATURES, WIDTH)
    x, share_x, _ = _cell(points, row, scale, num_points, 0, DIMS)
    y, share_y, _ = _cell(points, row, scale, num_points, 1, DIMS)
    z, share_z, _ = _cell(points, row, scale, num_points, DIMS - 1, DIMS)
    used = (row < num_points) & (column < active_width)
    blended = tl.zeros([ROWS, PADDED], points.dtype.element_ty)
    for corner in tl.static_range(1 << DIMS):
        entry = _entry(x, y, z, stride, first, last, dense, corner, DIMS)
        feature = tl.load(table + entry * FEATURES + column % FEATURES, mask=used, other=0).to(blended.dtype)
        weight = _share(share_x, corner & 1) * _share(share_y, (corner >> 1) & 1)
        if DIMS == 3:
            weight *= _share(share_z, (corner >> 2) & 1)
        blended += weight * feature
    blended = tl.where(used, blended, 0)
    place = output + row * WIDTH + column
    tl.store(place, blended.to(output.dtype.element_ty), mask=(row < num_points) & (column < WIDTH))


@triton.jit(do_not_specialize=["num_points", "active_width"])
def hash_grid_table_gradient(
    points,
    gradient,
    levels,
    output,
    num_points,
    active_width,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Adds the table's gradient to `output` (entries, FEATURES), which holds zeros in the points' type."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    scale, stride, first, last, dense = _level(points, levels, column, FEATURES, WIDTH)
    x, share_x, _ = _cell(points, row, scale, num_points, 0, DIMS)
    y, share_y, _ = _cell(points, row, scale, num_points, 1, DIMS)
    z, share_z, _ = _cell(points, row, scale, num_points, DIMS - 1, DIMS)
    used = (row < num_points) & (column < active_width)
    incoming = tl.load(gradient + row * WIDTH + column, mask=used, other=0).to(points.dtype.element_ty)
    # What lies behind a surface has no gradient, and atomics are the cost of this kernel.
    used = used & (incoming != 0)
    for corner in tl.static_range(1 << DIMS):
        entry = _entry(x, y, z, stride, first, last, dense, corner, DIMS)
        weight = _share(share_x, corner & 1) * _share(share_y, (corner >> 1) & 1)
        if DIMS == 3:
            weight *= _share(share_z, (corner >> 2) & 1)
        tl.atomic_add(output + entry * FEATURES + column % FEATURES, weight * incoming, mask=used, sem="relaxed")


@triton.jit(do_not_specialize=["num_points", "active_width"])
def hash_grid_coordinate_gradient(
    points,
    gradient,
    table,
    levels,
    output,
    num_points,
    active_width,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Writes the coordinates' gradient into `output` (N, DIMS)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    scale, stride, first, last, dense = _level(points, levels, column, FEATURES, WIDTH)
    x, share_x, free_x = _cell(points, row, scale, num_points, 0, DIMS)
    y, share_y, free_y = _cell(points, row, scale, num_points, 1, DIMS)
    z, share_z, free_z = _cell(points, row, scale, num_points, DIMS - 1, DIMS)
    used = (row < num_points) & (column < active_width)
    slope_x = tl.zeros([ROWS, PADDED], points.dtype.element_ty)
    slope_y = tl.zeros([ROWS, PADDED], points.dtype.element_ty)
    slope_z = tl.zeros([ROWS, PADDED], points.dtype.element_ty)
    for corner in tl.static_range(1 << DIMS):
        entry = _entry(x, y, z, stride, first, last, dense, corner, DIMS)
        feature = tl.load(table + entry * FEATURES + column % FEATURES, mask=used, other=0).to(slope_x.dtype)
        weight_x = _share(share_x, corner & 1)
        weight_y = _share(share_y, (corner >> 1) & 1)
        if DIMS == 3:
            weight_z = _share(share_z, (corner >> 2) & 1)
            slope_z += (2 * ((corner >> 2) & 1) - 1) * (weight_x * weight_y * feature)
            feature *= weight_z
        slope_x += (2 * (corner & 1) - 1) * (weight_y * feature)
        slope_y += (2 * ((corner >> 1) & 1) - 1) * (weight_x * feature)
    incoming = tl.load(gradient + row * WIDTH + column, mask=used, other=0).to(points.dtype.element_ty) * scale
    there = row < num_points
    # A clamped coordinate does not move its features.
    along_x = tl.sum(tl.where(used, slope_x * incoming, 0), axis=1)[:, None]
    tl.store(output + row * DIMS, tl.where(free_x, along_x, 0), mask=there)
    along_y = tl.sum(tl.where(used, slope_y * incoming, 0), axis=1)[:, None]
    tl.store(output + row * DIMS + 1, tl.where(free_y, along_y, 0), mask=there)
    if DIMS == 3:
        along_z = tl.sum(tl.where(used, slope_z * incoming, 0), axis=1)[:, None]
        tl.store(output + row * DIMS + 2, tl.where(free_z, along_z, 0), mask=there)
