"""Compositing of projected Gaussians, tile by tile, and its gradients.

A tile's pixels lie in one array, channel after channel of each row, over which the compiler makes vector code; with an
array for each channel it makes none. Both passes run front to back. The backward pass knows the sum over all Gaussians
from the picture, and takes the rest behind a Gaussian as that sum without those in front: nothing is stored per pixel.
"""

import numpy as np

from ntalker_ns.kernels.numba.common import lean
from ntalker_ns.kernels.numba.splats_projection import STRIP, TILE
from ntalker_ns.kernels.numba.splats_vectors import BACKWARD_CHANNELS, CHANNELS, add, add_gradients
from ntalker_ns.kernels.numba.workers import piecewise, take
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE

CHECKED = 16
"""Gaussians between two looks for rows that are opaque."""

_ZERO, _ONE, _LEAST_LIGHT = np.float32(0.0), np.float32(1.0), np.float32(MIN_TRANSMITTANCE)


@lean
def _live_rows(tile, top, bottom):
    """The first and behind the last row of which a pixel is not opaque yet, from those that were."""
    while top < bottom and not _is_live(tile, top):
        top += 1
    while top < bottom and not _is_live(tile, bottom - 1):
        bottom -= 1
    return top, bottom


@lean
def _is_live(tile, row):
    live = False
    for i in range(TILE):
        live |= tile[row, 0, i] >= _LEAST_LIGHT
    return live


@lean
def _list(spans, first, last, place, listed):
    """Writes those of a strip's entries that reach into one of its tiles; returns how many there are."""
    count = 0
    for entry in range(first, last):
        # Written in any case: a branch would be guessed wrongly.
        listed[count] = entry
        count += int((spans[entry, 0] <= place) & (spans[entry, 1] >= place))
    return count


@piecewise
def composite(packed, starts, entries, spans, pieces, colour, opacity, depth, counter):
    """Writes the picture, strip by strip in the order of `pieces`."""
    width = opacity.shape[1]
    across = (width + STRIP - 1) // STRIP
    tile = np.empty((TILE, CHANNELS, TILE), np.float32)
    listed = np.empty(starts[pieces[0] + 1] - starts[pieces[0]] + 1, np.int64)
    while True:
        piece = take(counter)
        if piece >= len(pieces):
            break
        strip = pieces[piece]
        y, left = strip // across * TILE, strip % across * STRIP
        for x in range(left, min(left + STRIP, width), TILE):
            tile[:, 0], tile[:, 1:] = _ONE, _ZERO
            count = _list(spans, starts[strip], starts[strip + 1], (x - left) // TILE, listed)
            _composite_tile(packed, entries, spans, listed, count, x, y, tile)
            _write_tile(tile, x, y, colour, opacity, depth)


@lean
def _write_tile(tile, x, y, colour, opacity, depth):
    height, width = opacity.shape
    for row in range(min(TILE, height - y)):
        for i in range(min(TILE, width - x)):
            for channel in range(3):
                colour[y + row, x + i, channel] = tile[row, channel + 1, i]
            depth[y + row, x + i] = tile[row, 4, i]
            opacity[y + row, x + i] = _ONE - tile[row, 0, i]


@lean
def _composite_tile(packed, entries, spans, listed, count, x, y, tile):
    """Adds Gaussians to the tile at pixel (x, y)."""
    top, bottom = 0, TILE
    for k in range(count):
        if k % CHECKED == 0:
            top, bottom = _live_rows(tile, top, bottom)
            if top == bottom:
                break
        entry = listed[k]
        first, last = max(int(spans[entry, 2]), top), min(int(spans[entry, 3]) + 1, bottom)
        add(tile, packed, entries[entry], first, last, x, y)


@piecewise
def composite_gradients(
    packed,
    starts,
    entries,
    spans,
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
    tile = np.empty((TILE, BACKWARD_CHANNELS, TILE), np.float32)
    listed = np.empty(starts[pieces[0] + 1] - starts[pieces[0]] + 1, np.int64)
    while True:
        piece = take(counter)
        if piece >= len(pieces):
            break
        strip = pieces[piece]
        for entry in range(starts[strip], starts[strip + 1]):
            sums[slots[entry]] = _ZERO
        y, left = strip // across * TILE, strip % across * STRIP
        for x in range(left, min(left + STRIP, width), TILE):
            _read_tile(tile, x, y, colour, opacity, depth, to_colour, to_opacity, to_depth)
            count = _list(spans, starts[strip], starts[strip + 1], (x - left) // TILE, listed)
            _gradients_of_tile(packed, entries, spans, slots, listed, count, x, y, tile, sums)


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
                tile[row, channel + 1, i] = to_colour[here[0], here[1], channel]
                change += to_colour[here[0], here[1], channel] * colour[here[0], here[1], channel]
            tile[row, 0, i], tile[row, 4, i], tile[row, 5, i] = _ONE, to_depth[here], to_opacity[here]
            tile[row, 6, i] = change + to_depth[here] * depth[here] + to_opacity[here] * opacity[here]


@lean
def _gradients_of_tile(packed, entries, spans, slots, listed, count, x, y, tile, sums):
    """Adds the sums over a tile."""
    top, bottom = 0, TILE
    for k in range(count):
        if k % CHECKED == 0:
            top, bottom = _live_rows(tile, top, bottom)
            if top == bottom:
                break
        entry = listed[k]
        first, last = max(int(spans[entry, 2]), top), min(int(spans[entry, 3]) + 1, bottom)
        add_gradients(tile, packed, entries[entry], first, last, x, y, sums, slots[entry])
