"""Compositing of projected Gaussians on CUDA, a tile in a program, and its gradients.

Both passes run front to back; see `kernels.numba.splats_raster`.
"""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
import math

import triton
import triton.language as tl

from ntalker_ns.kernels.triton.splats_projection import PACKED, SUMS
from ntalker_ns.kernels.types import LEAST_ALPHA, MIN_TRANSMITTANCE, MOST_ALPHA

TILE = 16
"""Side of a tile, px."""
LISTED = 1024
"""Gaussians that are sorted into a bin at once."""
LOOKED_AT = 32
"""Gaussians of a bin that a tile looks at at once."""

# Where kernels can read them.
LEAST_LIGHT, MOST, LEAST_LOG2 = (
    tl.constexpr(MIN_TRANSMITTANCE),
    tl.constexpr(MOST_ALPHA),
    tl.constexpr(math.log2(LEAST_ALPHA)),
)
PACKED_WIDTH, SUMS_WIDTH = tl.constexpr(PACKED), tl.constexpr(SUMS)


@triton.jit(do_not_specialize=["count", "bins_across", "bin_width", "bin_height"])
def list_bins(order, boxes, entries, counts, count, bins_across, bin_width, bin_height, LISTED: tl.constexpr):
    """Writes the Gaussians that reach into a bin, the nearest first, and how many they are.

    Args:
        order: Gaussians, the nearest first.
        boxes: of pixels.
        entries: (bins, Gaussians), written.
        counts: (bins,), written.
        count: of Gaussians.
        bins_across: bins of a row.
        bin_width: px, as the height.
    """
    here = tl.program_id(0)
    left, top = here % bins_across * bin_width, here // bins_across * bin_height
    listed = entries + here.to(tl.int64) * count
    found = 0
    for first in range(0, count, LISTED):
        place = first + tl.arange(0, LISTED)
        there = place < count
        i = tl.load(order + place, mask=there, other=0)
        hit = there & _reaches(boxes, i, there, left, top, bin_width, bin_height)
        rank = tl.cumsum(hit.to(tl.int32), axis=0) - 1
        tl.store(listed + found + rank, i.to(tl.int32), mask=hit)
        found += tl.sum(hit.to(tl.int32), axis=0)
    tl.store(counts + here, found)


@triton.jit
def _reaches(boxes, i, there, left, top, width, height):
    """Whether Gaussians reach into a rectangle of pixels."""
    box = boxes + 4 * i
    hit = (tl.load(box, mask=there, other=0) < left + width) & (tl.load(box + 1, mask=there, other=-1) >= left)
    hit &= (tl.load(box + 2, mask=there, other=0) < top + height) & (tl.load(box + 3, mask=there, other=-1) >= top)
    return hit


@triton.jit
def _tile(counts, tiles_across, bins_across, bin_width, bin_height, TILE: tl.constexpr):
    """The corner of a program's tile, its bin, and how many Gaussians are in that."""
    column, row = tl.program_id(0) % tiles_across, tl.program_id(0) // tiles_across
    here = row // bin_height * bins_across + column // bin_width
    return column * TILE, row * TILE, here.to(tl.int64), tl.load(counts + here)


@triton.jit
def _hits(boxes, listed, first, found, left, top, TILE: tl.constexpr, LOOKED_AT: tl.constexpr):
    """The next Gaussians of a list that reach into a tile, as the bits of a number."""
    lane = tl.arange(0, LOOKED_AT)
    there = first + lane < found
    i = tl.load(listed + first + lane, mask=there, other=0)
    hit = there & _reaches(boxes, i, there, left, top, TILE, TILE)
    return tl.sum(tl.where(hit, tl.full([LOOKED_AT], 1, tl.int64) << lane.to(tl.int64), 0), axis=0)


@triton.jit
def _lowest(bits):
    """The place of the lowest bit: the exponent of its floating-point number."""
    return ((bits & -bits).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _exponent(row, x, y):
    """log2 of a Gaussian's alpha at pixels, and their distances along x (from the row's centre) and y."""
    down = y - tl.load(row + 1)
    off = x - tl.load(row) - tl.load(row + 3) * down
    exponent = tl.load(row + 5) - tl.load(row + 4) * down * down - tl.load(row + 2) * off * off
    return exponent, off, down


@triton.jit(do_not_specialize=["count", "width", "height", "tiles_across", "bins_across", "bin_width", "bin_height"])
def composite_gaussians(
    packed,
    boxes,
    entries,
    counts,
    colours,
    opacities,
    depths,
    count,
    width,
    height,
    tiles_across,
    bins_across,
    bin_width,
    bin_height,
    TILE: tl.constexpr,
    LOOKED_AT: tl.constexpr,
):
    """Writes the picture."""
    left, top, here, found = _tile(counts, tiles_across, bins_across, bin_width, bin_height, TILE)
    listed = entries + here * count
    pixel = tl.arange(0, TILE * TILE)
    column, line = left + pixel % TILE, top + pixel // TILE
    x, y = column.to(tl.float32) + 0.5, line.to(tl.float32) + 0.5
    light = tl.full([TILE * TILE], 1.0, tl.float32)
    red, green = tl.zeros([TILE * TILE], tl.float32), tl.zeros([TILE * TILE], tl.float32)
    blue, depth = tl.zeros([TILE * TILE], tl.float32), tl.zeros([TILE * TILE], tl.float32)
    first = 0
    while first < found:
        bits = _hits(boxes, listed, first, found, left, top, TILE, LOOKED_AT)
        while bits != 0:
            row = packed + tl.load(listed + first + _lowest(bits)).to(tl.int64) * PACKED_WIDTH
            bits = bits & (bits - 1)
            exponent, _, _ = _exponent(row, x, y)
            there = (exponent >= LEAST_LOG2) & (light >= LEAST_LIGHT)
            weight = tl.where(there, tl.minimum(tl.exp2(exponent), MOST) * light, 0.0)
            red += weight * tl.load(row + 6)
            green += weight * tl.load(row + 7)
            blue += weight * tl.load(row + 8)
            depth += weight * tl.load(row + 9)
            light -= weight
        # None behind an opaque tile.
        first = tl.where(tl.max(light, axis=0) >= LEAST_LIGHT, first + LOOKED_AT, found)
    there, place = (column < width) & (line < height), line * width + column
    tl.store(colours + 3 * place, red, mask=there)
    tl.store(colours + 3 * place + 1, green, mask=there)
    tl.store(colours + 3 * place + 2, blue, mask=there)
    tl.store(opacities + place, 1.0 - light, mask=there)
    tl.store(depths + place, depth, mask=there)


@triton.jit
def _joined(a, b, c, d):
    """Four numbers of each pixel side by side."""
    return tl.join(tl.join(a, c), tl.join(b, d))


@triton.jit(do_not_specialize=["count", "width", "height", "tiles_across", "bins_across", "bin_width", "bin_height"])
def composite_gradients(
    packed,
    boxes,
    entries,
    counts,
    colours,
    opacities,
    depths,
    to_colours,
    to_opacities,
    to_depths,
    sums,
    count,
    width,
    height,
    tiles_across,
    bins_across,
    bin_width,
    bin_height,
    TILE: tl.constexpr,
    LOOKED_AT: tl.constexpr,
):
    """Adds the sums over the pixels of a tile for each of its Gaussians.

    With p the gradient of the exponent -q / 2 and e, d the pixel's offsets along x (from the row's centre) and y: sums
    of p, p e, p e^2, p e d, p d and p d^2; then gradients of red, green, blue and depth.
    """
    left, top, here, found = _tile(counts, tiles_across, bins_across, bin_width, bin_height, TILE)
    listed = entries + here * count
    pixel = tl.arange(0, TILE * TILE)
    column, line = left + pixel % TILE, top + pixel // TILE
    x, y = column.to(tl.float32) + 0.5, line.to(tl.float32) + 0.5
    inside, place = (column < width) & (line < height), line * width + column
    to_red = tl.load(to_colours + 3 * place, mask=inside, other=0)
    to_green = tl.load(to_colours + 3 * place + 1, mask=inside, other=0)
    to_blue = tl.load(to_colours + 3 * place + 2, mask=inside, other=0)
    to_opacity = tl.load(to_opacities + place, mask=inside, other=0)
    to_depth = tl.load(to_depths + place, mask=inside, other=0)
    # How the loss changes with all that is behind.
    behind = to_red * tl.load(colours + 3 * place, mask=inside, other=0)
    behind += to_green * tl.load(colours + 3 * place + 1, mask=inside, other=0)
    behind += to_blue * tl.load(colours + 3 * place + 2, mask=inside, other=0)
    behind += to_opacity * tl.load(opacities + place, mask=inside, other=0)
    behind += to_depth * tl.load(depths + place, mask=inside, other=0)
    light, nothing = tl.full([TILE * TILE], 1.0, tl.float32), tl.zeros([TILE * TILE], tl.float32)
    none = _joined(nothing, nothing, nothing, nothing)
    # Sums as they lie after they are joined: four of each four.
    number = tl.arange(0, 16) // 4 + tl.arange(0, 16) % 4 * 4
    first = 0
    while first < found:
        bits = _hits(boxes, listed, first, found, left, top, TILE, LOOKED_AT)
        while bits != 0:
            i = tl.load(listed + first + _lowest(bits)).to(tl.int64)
            row, total = packed + i * PACKED_WIDTH, sums + i * SUMS_WIDTH
            bits = bits & (bits - 1)
            exponent, off, down = _exponent(row, x, y)
            alpha = tl.exp2(exponent)
            there = (exponent >= LEAST_LOG2) & (light >= LEAST_LIGHT)
            free = there & (alpha < MOST)
            alpha = tl.minimum(alpha, MOST)
            weight = tl.where(there, alpha * light, 0.0)
            change = to_red * tl.load(row + 6) + to_green * tl.load(row + 7) + to_blue * tl.load(row + 8)
            change = weight * (change + to_depth * tl.load(row + 9) + to_opacity)
            light -= weight
            behind -= change
            pull = tl.where(free, change - behind * (alpha / (1.0 - alpha)), 0.0)
            # Summed at once: each sum of its own would wait for all warps.
            along, rise = pull * off, pull * down
            shape = _joined(pull, along, along * off, along * down)
            rest = _joined(rise, rise * down, weight * to_red, weight * to_green)
            last = _joined(weight * to_blue, weight * to_depth, nothing, nothing)
            every = tl.join(tl.join(shape, last), tl.join(rest, none))
            numbers = tl.reshape(tl.sum(every, axis=0), [16])
            tl.atomic_add(total + number, numbers, mask=number < SUMS_WIDTH)
        first = tl.where(tl.max(light, axis=0) >= LEAST_LIGHT, first + LOOKED_AT, found)
