"""The numba kernel of the way back through the whole field: networks and coordinates, tile by tile.

A tile's activations are found again from what the first grid says, which is kept, and stay in the cache. What tables
get is added up afterwards by the grids' own kernel, whose threads take levels and not samples.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ntalker_ns.kernels.numba.common import inner, kernel, lean
from ntalker_ns.kernels.numba.field_kernels import (
    LANES,
    NARROW,
    PLANE,
    SPACE,
    Field,
    Within,
    fade,
    frame_inputs,
    plain,
    to_color,
    within_tile,
)
from ntalker_ns.kernels.numba.hash_grid_kernels import CHUNK, Between, chunk_slopes, scratch
from ntalker_ns.kernels.numba.mlp_kernels import TILE, Gradients, Room, room_for, share, tile_gradients
from ntalker_ns.kernels.numba.warp import FaceArrays, gate_slope


class SampleGradients(NamedTuple):
    """Where the gradients of what belongs to samples are written to."""

    positions: np.ndarray
    """(samples, 3) zeros; none where nobody asks."""
    points: np.ndarray
    """(asked, 3) no gradient: where in the mean face with open eyes the samples are that have a gradient at all."""
    space: np.ndarray
    """(asked, features) of what the first grid says there."""
    places: np.ndarray
    """(spoken + 1, 2) no gradient: the audio coordinates of those that speech acts on, in [0, 1]; the last is where all
    others are."""
    special: np.ndarray
    """(spoken + 1, channels) of what the second grid says there."""
    before: np.ndarray
    """(tiles,) no gradient: how many of the tiles before speech acts on."""


@njit(cache=True)
def with_gradient(to_density, to_rgb, speech):
    """The samples whose answers have a gradient (a third of them has none, those behind surfaces), ascending; and how
    many of those before each, and of all at the end, speech acts on."""
    found, spoken = np.empty(len(to_density), np.int64), np.empty(len(to_density) + 1, np.int64)
    count, before = 0, 0
    for i in range(len(to_density)):
        there = (to_density[i, 0] != 0) | (to_rgb[i, 0] != 0) | (to_rgb[i, 1] != 0) | (to_rgb[i, 2] != 0)
        # Without branches: which samples these are, no processor foresees.
        found[count], spoken[count] = i, before
        count += there
        before += there & (speech[i] > 0)
    spoken[count] = before
    return found[:count], spoken[: count + 1]


class Back(NamedTuple):
    """What a thread writes in between of a tile on the way back."""

    x: np.ndarray
    """(TILE * features,) what the first grid says; this and the next three as on the way there."""
    speech: np.ndarray
    closed: np.ndarray
    rays: np.ndarray
    color: np.ndarray
    """(TILE * NARROW,) the gradient of what the colour network says."""
    seen: np.ndarray
    """(TILE, directions + outs) of what it is asked."""
    out: np.ndarray
    """(TILE * outs,) of what the density network says."""
    gates: np.ndarray
    """(TILE,) of the speech gate."""
    places: np.ndarray
    """(TILE, 2) of the audio coordinates."""
    raw: np.ndarray
    """(TILE * NARROW,) of what the network of the audio coordinate says."""
    gathered: np.ndarray
    """(TILE, features) of what it is asked."""
    points: np.ndarray
    """(TILE, 3) of the places in the mean face."""
    slopes: np.ndarray
    """Scratch of the grids."""
    unused: np.ndarray
    """(TILE,) gates that are 1 everywhere."""


class Mine(NamedTuple):
    """What a thread has for itself."""

    begin: int
    """The first of its tiles."""
    end: int
    """Behind the last of them."""
    between: tuple[Between, Between]
    """Scratch of the two grids."""
    within: Within
    back: Back
    rooms: tuple[Room, Room, Room]
    """Of the networks of the audio coordinate, of density, of colour; and so the rest."""
    sums: tuple[tuple[np.ndarray, ...], ...]
    """To which it adds, in the order of `numba_mlp.Sums`."""


@inner
def _back_room(field, views, kind):
    """Room for what a thread writes in between; what is padded is zero and stays so."""
    features, outs = len(field.space.scales) * len(LANES), len(field.outs)
    return Back(
        np.empty(TILE * features, kind.dtype),
        np.empty(TILE, kind.dtype),
        np.empty(TILE, kind.dtype),
        np.empty(TILE, np.int64),
        np.zeros(TILE * len(NARROW), kind.dtype),
        np.empty((TILE, views.values.shape[1] + outs), kind.dtype),
        np.empty(TILE * outs, kind.dtype),
        np.empty(TILE, kind.dtype),
        np.empty((TILE, 2), kind.dtype),
        np.zeros(TILE * len(NARROW), kind.dtype),
        np.empty((TILE, features), kind.dtype),
        np.empty((TILE, 3), kind.dtype),
        np.empty(CHUNK * len(SPACE) * len(LANES), kind.dtype),
        np.empty(TILE, kind.dtype),
    )


@inner
def _own(sums, thread):
    """The sums of a thread."""
    return sums.rows[thread], sums.first_weights[thread], sums.weights[thread], sums.biases[thread]


@njit(inline="always")
def _into(x, special, gates, sums, frame):
    """Where the gradients of a network on a tile of a frame are written to."""
    rows, first_weights, weights, biases = sums
    return Gradients(x, special, gates, rows[frame : frame + 1], first_weights, weights, biases)


@njit(inline="always")
def _slopes(points, first, count, between, slopes, gradient, grid, axes, output):
    """The gradient of coordinates of a tile."""
    shared = (grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active, axes, LANES)
    chunk_slopes(points, first, count, between, slopes, gradient, grid.table, *shared, output)


@lean
def _gather(asked, first, rows, features, kept, rays, points, back):
    """Puts side by side what was found of a tile's samples on the way there."""
    for t in range(rows):
        i = asked[first + t]
        back.speech[t], back.closed[t], back.rays[t] = kept.speech[i], kept.closed[i], rays[i]
        for axis in range(3):
            points[first + t, axis] = kept.points[i, axis]
        for k in range(features):
            back.x[t * features + k] = kept.space[i * features + k]


@lean
def _before_activations(asked, first, rows, outs, answered, back):
    """The gradients of the density's logarithm, in `back.out`, and of colour before the sigmoid."""
    one, n = np.float32(1), len(NARROW)
    density, rgb, to_density, to_rgb = answered
    back.out[: rows * outs] = 0
    for t in range(rows):
        i = asked[first + t]
        # As `truncated_exp`: it does not vanish where the logarithm was too large.
        back.out[t * outs] = to_density[i, 0] * density[i, 0]
        for k in range(3):
            value = rgb[i, k]
            back.color[t * n + k] = to_rgb[i, k] * value * (one - value)


@lean
def _before_tanh(count, speech, within, back, places):
    """The gradients of what the network of the audio coordinate says, and of the gates of that coordinate, which is
    written to `places`."""
    one, half, n = np.float32(1), np.float32(0.5), len(NARROW)
    for c in range(count):
        t = within.inside[c]
        for axis in range(2):
            places[c, axis] = within.places[c, axis]
            gradient, value = half * back.places[c, axis], within.raw[c * n + axis]
            back.gates[t] += gradient * value
            back.raw[c * n + axis] = gradient * speech[t] * (one - value * value)


@lean
def _to_world(positions, asked, first, rows, speech_gate, back, output):
    """The gradient of world positions, from those of settled ones and of the speech gate."""
    for t in range(rows):
        i = asked[first + t]
        slope, ball = gate_slope(positions[i, 0], positions[i, 1], positions[i, 2], speech_gate)
        for axis in range(3):
            along = back.gates[t] * slope * (positions[i, axis] - speech_gate.centers[ball, axis])
            output[i, axis] = np.float32(0.5) * back.points[t, axis] + along


@lean
def _add_seen(rows, outs, directions, back):
    """Adds what colour says to the gradient of what the density network says."""
    for t in range(rows):
        for k in range(outs):
            back.out[t * outs + k] += back.seen[t, directions + k]


@lean
def _add_gathered(count, features, within, back, to_space):
    """Adds the gradient of what the network of the audio coordinate was asked to that of all samples."""
    for c in range(count):
        for k in range(features):
            to_space[within.inside[c], k] += back.gathered[c, k]


@lean
def _of_tiles(field, positions, views, asked, tiles, kept, answered, matrices, wides, to, mine):
    """Writes the gradients of the samples of a thread's tiles, and adds those of the networks."""
    within, back, sums = mine.within, mine.back, mine.sums
    hidden, outs, features, directions = field.hidden, field.outs, within.features, views.values.shape[1]
    of_space, of_plane = mine.between
    hear_room, shape_room, color_room = mine.rooms
    of_coordinate, of_shape, of_color = matrices
    wide, seen_wide = wides
    unused, flat = to.special[:0], to.space.reshape(-1)
    for number in range(mine.begin, mine.end):
        first, rows, frame, base = tiles.first[number], tiles.rows[number], tiles.frame[number], to.before[number]
        _gather(asked, first, rows, features, kept, views.rays, to.points, back)
        x, rays, speech, closed = back.x, back.rays, back.speech, back.closed
        count, shape, color = to_color(
            field, views.values, rays, x, speech, closed, rows, frame, of_plane, within, mine.rooms
        )
        _before_activations(asked, first, rows, len(outs), answered, back)
        frames, network = frame_inputs(field, 2, frame, within.ends, within.ones), field.color_net
        into = _into(back.seen, unused, back.unused, sums[2], frame)
        tile_gradients(
            color, frames, network, of_color, 0, rows, 0, seen_wide, hidden, color_room, back.color, NARROW, into
        )
        _add_seen(rows, len(outs), directions, back)
        frames, network = frame_inputs(field, 1, frame, within.ends, speech), field.density_net
        to_space, to_special = to.space[first:], to.special[base:]
        into = _into(to_space, to_special, back.gates, sums[1], frame)
        tile_gradients(shape, frames, network, of_shape, 0, rows, 0, wide, hidden, shape_room, back.out, outs, into)
        if count:
            of_special = to_special.reshape(-1)
            _slopes(within.places, 0, count, of_plane, back.slopes, of_special, field.audio, PLANE, back.places)
            _before_tanh(count, speech, within, back, to.places[base:])
            frames, network = frame_inputs(field, 0, frame, within.ends, within.ones), field.coordinate_net
            heard = plain(within.gathered, features, within, hear_room.nothing)
            into = _into(back.gathered, unused, back.unused, sums[0], frame)
            tile_gradients(
                heard, frames, network, of_coordinate, 0, count, 0, wide, hidden, hear_room, back.raw, NARROW, into
            )
            _add_gathered(count, features, within, back, to_space)
        of_x = flat[first * features :]
        fade(of_x, features, field.lid_features, rows, closed)
        if len(to.positions):
            _slopes(to.points[first:], 0, rows, of_space, back.slopes, of_x, field.space, SPACE, back.points)
            _to_world(positions, asked, first, rows, field.speech_gate, back, to.positions)


@kernel
def field_gradients(
    speech_gate,
    brow_gate,
    eye_gate,
    lips,
    brows,
    lids,
    openness,
    lid_features,
    space,
    audio,
    common,
    coordinate_net,
    density_net,
    color_net,
    frame_rows,
    hidden,
    outs,
    positions,
    views,
    asked,
    tiles,
    kept,
    density,
    rgb,
    to_density,
    to_rgb,
    coordinate_matrices,
    density_matrices,
    color_matrices,
    wide,
    seen_wide,
    threads,
    to,
    coordinate_sums,
    density_sums,
    color_sums,
):
    """Writes the gradients of samples, and adds those of the networks.

    Args:
        positions, views, kept, density, rgb: as they went in and out on the way there.
        asked: (asked,) the samples that have a gradient, ascending.
        tiles: of these.
        to_density, to_rgb: (samples, 1), (samples, 3) the gradients of the last two.
        coordinate_matrices, density_matrices, color_matrices: see `Transposed`.
        wide, seen_wide: tuples as long as the padded inputs of the first two networks, and of that of colour.
        threads: that share the tiles.
        to: see `SampleGradients`; written.
        coordinate_sums, density_sums, color_sums: see `Sums`; added to.
    """
    for thread in prange(threads):
        # See `run_field`.
        face = FaceArrays(brow_gate, eye_gate, lips, brows, lids, openness)
        networks = (coordinate_net, density_net, color_net)
        field = Field(speech_gate, face, lid_features, space, audio, common, *networks, frame_rows, hidden, outs)
        within, back = within_tile(field, views, positions), _back_room(field, views, positions)
        rooms = (
            room_for(coordinate_net.layers, wide, hidden, outs, positions),
            room_for(density_net.layers, wide, hidden, outs, positions),
            room_for(color_net.layers, seen_wide, hidden, outs, positions),
        )
        answered, matrices = (density, rgb, to_density, to_rgb), (coordinate_matrices, density_matrices, color_matrices)
        between = (scratch(positions, SPACE), scratch(positions, PLANE))
        sums = (_own(coordinate_sums, thread), _own(density_sums, thread), _own(color_sums, thread))
        mine = Mine(*share(len(tiles.first), threads, thread), between, within, back, rooms, sums)
        _of_tiles(field, positions, views, asked, tiles, kept, answered, matrices, (wide, seen_wide), to, mine)
