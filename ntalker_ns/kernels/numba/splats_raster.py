"""Compositing of projected Gaussians, tile by tile, and its gradients.

A tile's pixels lie in one array, channel after channel of each row, over which the compiler makes vector code; with an
array for each channel it makes none. Both passes run front to back. The backward pass knows the sum over all Gaussians
from the picture, and takes the rest behind a Gaussian as that sum without those in front: nothing is stored per pixel.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ntalker_ns.kernels.numba.common import lean
from ntalker_ns.kernels.numba.splats_projection import LEAST_LOG2, LOG2_E, STRIP, SUMS, TILE
from ntalker_ns.kernels.numba.workers import piecewise, take
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, MOST_ALPHA

CHANNELS = 5
"""Red, green, blue, depth, transmittance."""
BACKWARD_CHANNELS = 7
"""Gradients of the first four and of opacity, transmittance, and the part of the loss's change that is behind."""
CHECKED = 16
"""Gaussians between two looks for rows that are opaque."""

_ZERO, _ONE, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_LAST = np.float32(TILE - 1)
_LEAST_LIGHT, _MOST_ALPHA = np.float32(MIN_TRANSMITTANCE), np.float32(MOST_ALPHA)
_LN_2 = np.float32(1.0) / LOG2_E
_LIFT = 32
"""Whole number that makes exponents positive, so that cutting off the fraction rounds down."""
_SERIES = tuple(
    np.float32(each) for each in (1.0, 0.6931472, 0.24022651, 0.05550411, 0.009618129, 0.0013333558, 0.00015403530)
)
"""Of 2^x around 0."""


def _convert_bits(typing_context: Any, bits: Any) -> Any:
    """LLVM code of `_float_of_bits`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_float_of_bits: Any = intrinsic(_convert_bits)
"""The float32 of an int32's bits."""


@lean
def _exp2(x):
    """2^x for x from -30 to 90, to 1e-7 of it."""
    lifted = x + (_HALF + np.float32(_LIFT))
    whole = np.int32(lifted)
    rest = x - np.float32(whole - np.int32(_LIFT))
    a, b, c, d, e, f, g = _SERIES
    series = a + rest * (b + rest * (c + rest * (d + rest * (e + rest * (f + rest * g)))))
    return series * _float_of_bits((whole + np.int32(127 - _LIFT)) << np.int32(23))


@lean
def _near(centre):
    """Distance of a row's centre from the pixels of the tile."""
    return max(max(-centre, centre - _LAST), _ZERO)


@lean
def _live_rows(tile, channel, top, bottom):
    """The first and behind the last row of which a pixel is not opaque yet, from those that were."""
    while top < bottom and not _is_live(tile, channel, top):
        top += 1
    while top < bottom and not _is_live(tile, channel, bottom - 1):
        bottom -= 1
    return top, bottom


@lean
def _is_live(tile, channel, row):
    live = False
    for i in range(TILE):
        live |= tile[row, channel, i] >= _LEAST_LIGHT
    return live


@piecewise
def composite(packed, boxes, starts, entries, pieces, colour, opacity, depth, counter):
    """Writes the picture, strip by strip in the order of `pieces`."""
    width = opacity.shape[1]
    across = (width + STRIP - 1) // STRIP
    tile, lanes = np.empty((TILE, CHANNELS, TILE), np.float32), np.arange(TILE).astype(np.float32)
    while True:
        piece = take(counter)
        if piece >= len(pieces):
            break
        strip = pieces[piece]
        top, left = strip // across * TILE, strip % across * STRIP
        for x in range(left, min(left + STRIP, width), TILE):
            tile[:, :4], tile[:, 4] = _ZERO, _ONE
            _composite_tile(packed, boxes, entries, starts[strip], starts[strip + 1], x, top, lanes, tile)
            _write_tile(tile, x, top, colour, opacity, depth)


@lean
def _write_tile(tile, x, y, colour, opacity, depth):
    height, width = opacity.shape
    for row in range(min(TILE, height - y)):
        for i in range(min(TILE, width - x)):
            for channel in range(3):
                colour[y + row, x + i, channel] = tile[row, channel, i]
            depth[y + row, x + i] = tile[row, 3, i]
            opacity[y + row, x + i] = _ONE - tile[row, 4, i]


@lean
def _composite_tile(packed, boxes, entries, first, last, x, y, lanes, tile):
    """Adds a strip's Gaussians to the tile at pixel (x, y)."""
    top, bottom, since = 0, TILE, 0
    for entry in range(first, last):
        i = entries[entry]
        if boxes[i, 1] < x or boxes[i, 0] >= x + TILE:
            continue
        if since == CHECKED:
            since = 0
            top, bottom = _live_rows(tile, 4, top, bottom)
            if top == bottom:
                break
        since += 1
        _add(packed, i, max(boxes[i, 2] - y, top), min(boxes[i, 3] + 1 - y, bottom), x, y, lanes, tile)


@lean
def _add(packed, i, first, last, x, y, lanes, tile):
    """Adds a Gaussian to the rows from `first` to `last`."""
    middle_x, middle_y = packed[i, 0] - np.float32(x) - _HALF, packed[i, 1] - np.float32(y) - _HALF
    precision, slant, narrow, peak = packed[i, 2], packed[i, 3], packed[i, 4], packed[i, 5]
    red, green, blue, depth = packed[i, 6], packed[i, 7], packed[i, 8], packed[i, 9]
    for row in range(first, last):
        down = np.float32(row) - middle_y
        centre, highest = middle_x + slant * down, peak - narrow * down * down
        near = _near(centre)
        if highest - precision * near * near < LEAST_LOG2:
            continue
        for lane in range(TILE):
            off = lanes[lane] - centre
            exponent = highest - precision * off * off
            alpha = min(_exp2(max(exponent, LEAST_LOG2 - _ONE)), _MOST_ALPHA)
            light = tile[row, 4, lane]
            weight = alpha * light if exponent >= LEAST_LOG2 and light >= _LEAST_LIGHT else _ZERO
            tile[row, 0, lane] += weight * red
            tile[row, 1, lane] += weight * green
            tile[row, 2, lane] += weight * blue
            tile[row, 3, lane] += weight * depth
            tile[row, 4, lane] = light - weight


@piecewise
def composite_gradients(
    packed,
    boxes,
    starts,
    entries,
    slots,
    pieces,
    colour,
    opacity,
    depth,
    to_colour,
    to_opacity,
    to_depth,
    sums,
    counter,
):
    """Writes sums over the pixels of each strip for each of its Gaussians, in the Gaussian's slot.

    With p the gradient of the exponent -q / 2 and e, d the pixel's offsets along x (from the row's centre) and y: sums
    of p, p e, p e^2, p e d, p d and p d^2; then gradients of red, green, blue and depth.
    """
    width = opacity.shape[1]
    across = (width + STRIP - 1) // STRIP
    tile, lanes = np.empty((TILE, BACKWARD_CHANNELS, TILE), np.float32), np.arange(TILE).astype(np.float32)
    lane_sums = np.empty((SUMS, TILE), np.float32)
    while True:
        piece = take(counter)
        if piece >= len(pieces):
            break
        strip = pieces[piece]
        for entry in range(starts[strip], starts[strip + 1]):
            sums[slots[entry]] = _ZERO
        top, left = strip // across * TILE, strip % across * STRIP
        for x in range(left, min(left + STRIP, width), TILE):
            _read_tile(tile, x, top, colour, opacity, depth, to_colour, to_opacity, to_depth)
            _gradients_of_tile(
                packed, boxes, entries, slots, starts[strip], starts[strip + 1], x, top, lanes, tile, lane_sums, sums
            )


@lean
def _read_tile(tile, x, y, colour, opacity, depth, to_colour, to_opacity, to_depth):
    """Gradients at the pixels of a tile, and how the loss changes with all that is there; none outside of the
    picture."""
    height, width = opacity.shape
    tile[:] = _ZERO
    for row in range(min(TILE, height - y)):
        for i in range(min(TILE, width - x)):
            here, change = (y + row, x + i), _ZERO
            for channel in range(3):
                tile[row, channel, i] = to_colour[here[0], here[1], channel]
                change += to_colour[here[0], here[1], channel] * colour[here[0], here[1], channel]
            tile[row, 3, i], tile[row, 4, i], tile[row, 5, i] = to_depth[here], to_opacity[here], _ONE
            tile[row, 6, i] = change + to_depth[here] * depth[here] + to_opacity[here] * opacity[here]


@lean
def _gradients_of_tile(packed, boxes, entries, slots, first, last, x, y, lanes, tile, lane_sums, sums):
    """Adds the sums over a tile."""
    top, bottom, since = 0, TILE, 0
    for entry in range(first, last):
        i = entries[entry]
        if boxes[i, 1] < x or boxes[i, 0] >= x + TILE:
            continue
        if since == CHECKED:
            since = 0
            top, bottom = _live_rows(tile, 5, top, bottom)
            if top == bottom:
                break
        since += 1
        lane_sums[:] = _ZERO
        _add_gradients(
            packed, i, max(boxes[i, 2] - y, top), min(boxes[i, 3] + 1 - y, bottom), x, y, lanes, tile, lane_sums
        )
        slot = slots[entry]
        for k in range(SUMS):
            total = _ZERO
            for lane in range(TILE):
                total += lane_sums[k, lane]
            sums[slot, k] += total


@lean
def _add_gradients(packed, i, first, last, x, y, lanes, tile, lane_sums):
    """Adds a Gaussian's sums over the rows from `first` to `last`, lane by lane."""
    middle_x, middle_y = packed[i, 0] - np.float32(x) - _HALF, packed[i, 1] - np.float32(y) - _HALF
    precision, slant, narrow, peak = packed[i, 2], packed[i, 3], packed[i, 4], packed[i, 5]
    red, green, blue, depth = packed[i, 6], packed[i, 7], packed[i, 8], packed[i, 9]
    for row in range(first, last):
        down = np.float32(row) - middle_y
        centre, highest = middle_x + slant * down, peak - narrow * down * down
        near = _near(centre)
        if highest - precision * near * near < LEAST_LOG2:
            continue
        for lane in range(TILE):
            off = lanes[lane] - centre
            exponent = highest - precision * off * off
            alpha = _exp2(max(exponent, LEAST_LOG2 - _ONE))
            light = tile[row, 5, lane]
            there = exponent >= LEAST_LOG2 and light >= _LEAST_LIGHT
            free = alpha < _MOST_ALPHA
            alpha = min(alpha, _MOST_ALPHA)
            weight = alpha * light if there else _ZERO
            value = red * tile[row, 0, lane] + green * tile[row, 1, lane] + blue * tile[row, 2, lane]
            value += depth * tile[row, 3, lane] + tile[row, 4, lane]
            behind = tile[row, 6, lane] - weight * value
            tile[row, 5, lane], tile[row, 6, lane] = light - weight, behind
            change = weight * value - behind * alpha / (_ONE - alpha)
            change = change if there and free else _ZERO
            lane_sums[0, lane] += change
            lane_sums[1, lane] += change * off
            lane_sums[2, lane] += change * off * off
            lane_sums[3, lane] += change * off * down
            lane_sums[4, lane] += change * down
            lane_sums[5, lane] += change * down * down
            lane_sums[6, lane] += weight * tile[row, 0, lane]
            lane_sums[7, lane] += weight * tile[row, 1, lane]
            lane_sums[8, lane] += weight * tile[row, 2, lane]
            lane_sums[9, lane] += weight * tile[row, 3, lane]
