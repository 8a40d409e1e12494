"""The numba kernel of the way back through the whole field: networks and coordinates, tile by tile.

A tile's activations are found again from what the first grid says, which is kept, and stay in the cache. What tables
get is added up afterwards by the grids' own kernel, whose threads take levels and not samples.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ntalker_ns.encodings.numba_common import kernel, lean
from ntalker_ns.encodings.numba_kernels import CHUNK, chunk_slopes, scratch
from ntalker_ns.field.numba_bends import FaceArrays, gate_slope
from ntalker_ns.field.numba_field_kernels import (
    LANES,
    NARROW,
    PLANE,
    SPACE,
    Field,
    fade,
    plain,
    to_color,
    told,
    within_tile,
)
from ntalker_ns.field.numba_mlp_kernels import TILE, Gradients, room_for, share, tile_gradients


class SampleGradients(NamedTuple):
    """Where the gradients of what belongs to samples are written to."""

    positions: np.ndarray
    """(samples, 3); none where nobody asks."""
    space: np.ndarray
    """(samples, features) of what the first grid says."""
    places: np.ndarray
    """(spoken + 1, 2) no gradient: the audio coordinates of the samples that speech acts on, in [0, 1]; the last is
    where all others are."""
    special: np.ndarray
    """(spoken + 1, channels) of what the second grid says there."""
    before: np.ndarray
    """(tiles,) no gradient: how many samples of the tiles before speech acts on."""


class Back(NamedTuple):
    """What a thread writes in between of a tile on the way back."""

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
    slopes: np.ndarray
    """Scratch of the grids."""
    unused: np.ndarray
    """(TILE,) gates that are 1 everywhere."""


@njit
def _back_room(field, views, kind):
    """Room for what a thread writes in between; what is padded is zero and stays so."""
    features, outs = len(field.space.scales) * len(LANES), len(field.outs)
    return Back(
        np.zeros(TILE * len(NARROW), kind.dtype),
        np.empty((TILE, views.values.shape[1] + outs), kind.dtype),
        np.empty(TILE * outs, kind.dtype),
        np.empty(TILE, kind.dtype),
        np.empty((TILE, 2), kind.dtype),
        np.zeros(TILE * len(NARROW), kind.dtype),
        np.empty((TILE, features), kind.dtype),
        np.empty(CHUNK * len(SPACE) * len(LANES), kind.dtype),
        np.empty(TILE, kind.dtype),
    )


@njit
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
def _before_activations(first, rows, outs, answered, back):
    """The gradients of the density's logarithm, in `back.out`, and of colour before the sigmoid."""
    one, n = np.float32(1), len(NARROW)
    density, rgb, to_density, to_rgb = answered
    back.out[: rows * outs] = 0
    for t in range(rows):
        # As `truncated_exp`: it does not vanish where the logarithm was too large.
        back.out[t * outs] = to_density[first + t, 0] * density[first + t, 0]
        for k in range(3):
            value = rgb[first + t, k]
            back.color[t * n + k] = to_rgb[first + t, k] * value * (one - value)


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
def _to_world(positions, first, rows, speech_gate, to_gates, output):
    """The gradient of world positions, from those of settled ones in `output` and of the speech gate."""
    for t in range(rows):
        x, y, z = positions[first + t, 0], positions[first + t, 1], positions[first + t, 2]
        slope, ball = gate_slope(x, y, z, speech_gate)
        for axis in range(3):
            along = to_gates[t] * slope * (positions[first + t, axis] - speech_gate.centers[ball, axis])
            output[first + t, axis] = np.float32(0.5) * output[first + t, axis] + along


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
def _of_tiles(
    field, positions, views, tiles, begin, end, kept, answered, matrices, wides, between, within, back, rooms, to, sums
):
    """Writes the gradients of the samples of some tiles, and adds those of the networks."""
    hidden, outs, features, directions = field.hidden, field.outs, within.features, views.values.shape[1]
    of_space, of_plane = between
    hear_room, shape_room, color_room = rooms
    of_coordinate, of_shape, of_color = matrices
    wide, seen_wide = wides
    unused, flat = to.special[:0], to.space.reshape(-1)
    for number in range(begin, end):
        first, rows, frame, base = tiles.first[number], tiles.rows[number], tiles.frame[number], to.before[number]
        x, speech, closed = kept.space[first * features :], kept.speech[first:], kept.closed[first:]
        count, shape, color = to_color(field, views, x, speech, closed, first, rows, frame, of_plane, within, rooms)

        _before_activations(first, rows, len(outs), answered, back)
        frames, network = told(field, 2, frame, within.ends, within.ones), field.color_net
        into = _into(back.seen, unused, back.unused, sums[2], frame)
        tile_gradients(
            color, frames, network, of_color, 0, rows, 0, seen_wide, hidden, color_room, back.color, NARROW, into
        )
        _add_seen(rows, len(outs), directions, back)
        frames, network = told(field, 1, frame, within.ends, speech), field.density_net
        to_space, to_special = to.space[first:], to.special[base:]
        into = _into(to_space, to_special, back.gates, sums[1], frame)
        tile_gradients(shape, frames, network, of_shape, 0, rows, 0, wide, hidden, shape_room, back.out, outs, into)
        if count:
            of_special = to_special.reshape(-1)
            _slopes(within.places, 0, count, of_plane, back.slopes, of_special, field.audio, PLANE, back.places)
            _before_tanh(count, speech, within, back, to.places[base:])
            frames, network = told(field, 0, frame, within.ends, within.ones), field.coordinate_net
            heard = plain(within.gathered, features, within, hear_room.nothing)
            into = _into(back.gathered, unused, back.unused, sums[0], frame)
            tile_gradients(
                heard, frames, network, of_coordinate, 0, count, 0, wide, hidden, hear_room, back.raw, NARROW, into
            )
            _add_gathered(count, features, within, back, to_space)
        fade(flat[first * features :], features, field.lid_features, rows, closed)
        if len(to.positions):
            _slopes(kept.points, first, rows, of_space, back.slopes, flat, field.space, SPACE, to.positions)
            _to_world(positions, first, rows, field.speech_gate, back.gates, to.positions)


@kernel
def ask_gradients(
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
        positions, views, tiles, kept, density, rgb: as they went in and out on the way there.
        to_density, to_rgb: (samples, 1), (samples, 3) the gradients of the last two.
        coordinate_matrices, density_matrices, color_matrices: see `Transposed`.
        wide, seen_wide: tuples as long as the padded inputs of the first two networks, and of that of colour.
        threads: that share the tiles.
        to: see `SampleGradients`; written.
        coordinate_sums, density_sums, color_sums: see `Sums`; added to.
    """
    for thread in prange(threads):
        # See `ask`.
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
        wides, between = (wide, seen_wide), (scratch(positions, SPACE), scratch(positions, PLANE))
        sums = (_own(coordinate_sums, thread), _own(density_sums, thread), _own(color_sums, thread))
        begin, end = share(len(tiles.first), threads, thread)
        _of_tiles(
            field,
            positions,
            views,
            tiles,
            begin,
            end,
            kept,
            answered,
            matrices,
            wides,
            between,
            within,
            back,
            rooms,
            to,
            sums,
        )
