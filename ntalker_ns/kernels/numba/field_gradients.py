"""The backward pass of the whole field in one kernel: networks and coordinates, tile by tile.

A tile's activations are recomputed from the space grid's features, which are kept, and stay in the cache. The tables'
gradients are summed afterwards by the grids' own kernel, whose threads take levels instead of samples.
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
    TileBuffers,
    fade,
    frame_inputs,
    plain,
    tile_buffers,
    to_color,
)
from ntalker_ns.kernels.numba.hash_grid_kernels import CHUNK, Between, chunk_slopes, scratch
from ntalker_ns.kernels.numba.mlp_kernels import TILE, Buffers, Gradients, buffers_for, thread_tiles, tile_gradients
from ntalker_ns.kernels.numba.warp import FaceArrays, gate_slope


class SampleGradients(NamedTuple):
    """Where the gradients of samples are written to."""

    positions: np.ndarray
    """(samples, 3) zeros; empty where they have no gradient."""
    points: np.ndarray
    """(found, 3) no gradient: canonical positions of the samples that have a gradient."""
    space: np.ndarray
    """(found, features) of the space grid's features."""
    places: np.ndarray
    """(spoken + 1, 2) no gradient: audio coordinates of those that speech acts on, in [0, 1]; the last is the origin of
    all others."""
    special: np.ndarray
    """(spoken + 1, channels) of the audio grid's features."""
    before: np.ndarray
    """(tiles,) no gradient: how many samples of earlier tiles speech acts on."""


@njit(cache=True)
def with_gradient(to_density, to_rgb, speech):
    """The samples whose outputs have a gradient, ascending (a third, behind surfaces, has none); and how many of those
    before each, and of all at the end, have speech."""
    found, spoken = np.empty(len(to_density), np.int64), np.empty(len(to_density) + 1, np.int64)
    count, before = 0, 0
    for i in range(len(to_density)):
        there = (to_density[i, 0] != 0) | (to_rgb[i, 0] != 0) | (to_rgb[i, 1] != 0) | (to_rgb[i, 2] != 0)
        # Without branches, which would be unpredictable.
        found[count], spoken[count] = i, before
        count += there
        before += there & (speech[i] > 0)
    spoken[count] = before
    return found[:count], spoken[: count + 1]


class BackwardBuffers(NamedTuple):
    """A thread's intermediate values of a tile in the backward pass."""

    x: np.ndarray
    """(TILE * features,) the space grid's features; this and the next three as in the forward pass."""
    speech: np.ndarray
    closed: np.ndarray
    rays: np.ndarray
    color: np.ndarray
    """(TILE * NARROW,) the gradient of the colour network's outputs."""
    seen: np.ndarray
    """(TILE, directions + outs) of its inputs."""
    out: np.ndarray
    """(TILE * outs,) of the density network's outputs."""
    gates: np.ndarray
    """(TILE,) of the speech gate."""
    places: np.ndarray
    """(TILE, 2) of the audio coordinates."""
    raw: np.ndarray
    """(TILE * NARROW,) of the outputs of the audio coordinate's network."""
    gathered: np.ndarray
    """(TILE, features) of its inputs."""
    points: np.ndarray
    """(TILE, 3) of the canonical positions."""
    slopes: np.ndarray
    """Scratch of the grids."""
    unused: np.ndarray
    """(TILE,) gates that are 1 everywhere."""


class ThreadState(NamedTuple):
    """A thread's tiles, buffers and sums."""

    begin: int
    """The first of its tiles."""
    end: int
    """Index behind the last of them."""
    between: tuple[Between, Between]
    """Scratch of the two grids."""
    within: TileBuffers
    back: BackwardBuffers
    buffers_of_networks: tuple[Buffers, Buffers, Buffers]
    """Of the networks of the audio coordinate, of density, of colour; as the next."""
    sums: tuple[tuple[np.ndarray, ...], ...]
    """See `mlp.Sums`."""


@inner
def _backward_buffers(field, views, kind):
    """A thread's buffers; padding is zero and stays so."""
    features, outs = len(field.space.scales) * len(LANES), len(field.outs)
    return BackwardBuffers(
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
    """Where a network's gradients on a tile of a frame are written to."""
    rows, first_weights, weights, biases = sums
    return Gradients(x, special, gates, rows[frame : frame + 1], first_weights, weights, biases)


@njit(inline="always")
def _slopes(points, first, count, between, slopes, gradient, grid, axes, output):
    """The gradient of coordinates of a tile."""
    shared = (grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active, axes, LANES)
    chunk_slopes(points, first, count, between, slopes, gradient, grid.table, *shared, output)


@lean
def _gather(index, first, rows, features, kept, rays, points, back):
    """Gathers the kept values of a tile's samples."""
    for t in range(rows):
        i = index[first + t]
        back.speech[t], back.closed[t], back.rays[t] = kept.speech[i], kept.closed[i], rays[i]
        for axis in range(3):
            points[first + t, axis] = kept.points[i, axis]
        for k in range(features):
            back.x[t * features + k] = kept.space[i * features + k]


@lean
def _before_activations(index, first, rows, outs, outputs, back):
    """The gradients of the density's logarithm, in `back.out`, and of colour before the sigmoid."""
    one, n = np.float32(1), len(NARROW)
    density, rgb, to_density, to_rgb = outputs
    back.out[: rows * outs] = 0
    for t in range(rows):
        i = index[first + t]
        # As `truncated_exp`: it does not vanish where the logarithm was too large.
        back.out[t * outs] = to_density[i, 0] * density[i, 0]
        for k in range(3):
            value = rgb[i, k]
            back.color[t * n + k] = to_rgb[i, k] * value * (one - value)


@lean
def _before_tanh(count, speech, within, back, places):
    """The gradients of the outputs of the audio coordinate's network, and of the speech gates; the coordinate itself is
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
def _world_gradient(positions, index, first, rows, speech_gate, back, output):
    """The gradient of world positions, from those of canonical ones and of the speech gate."""
    for t in range(rows):
        i = index[first + t]
        slope, ball = gate_slope(positions[i, 0], positions[i, 1], positions[i, 2], speech_gate)
        for axis in range(3):
            along = back.gates[t] * slope * (positions[i, axis] - speech_gate.centers[ball, axis])
            output[i, axis] = np.float32(0.5) * back.points[t, axis] + along


@lean
def _add_color_inputs(rows, outs, directions, back):
    """Adds the gradient of the colour network's inputs to that of the density network's outputs."""
    for t in range(rows):
        for k in range(outs):
            back.out[t * outs + k] += back.seen[t, directions + k]


@lean
def _add_gathered(count, features, within, back, to_space):
    """Adds the gradient of the inputs of the audio coordinate's network to that of all samples."""
    for c in range(count):
        for k in range(features):
            to_space[within.inside[c], k] += back.gathered[c, k]


@lean
def _of_tiles(field, positions, views, index, tiles, kept, outputs, matrices, wides, to, state):
    """Writes the gradients of the samples of a thread's tiles, and adds those of the networks."""
    within, back, sums = state.within, state.back, state.sums
    hidden, outs, features, directions = field.hidden, field.outs, within.features, views.values.shape[1]
    of_space, of_plane = state.between
    coordinate_buffers, density_buffers, color_buffers = state.buffers_of_networks
    of_coordinate, of_shape, of_color = matrices
    wide, seen_wide = wides
    unused, flat = to.special[:0], to.space.reshape(-1)
    for number in range(state.begin, state.end):
        first, rows, frame, base = tiles.first[number], tiles.rows[number], tiles.frame[number], to.before[number]
        _gather(index, first, rows, features, kept, views.rays, to.points, back)
        x, rays, speech, closed = back.x, back.rays, back.speech, back.closed
        count, shape, color = to_color(
            field, views.values, rays, x, speech, closed, rows, frame, of_plane, within, state.buffers_of_networks
        )
        _before_activations(index, first, rows, len(outs), outputs, back)
        frames, network = frame_inputs(field, 2, frame, within.ends, within.ones), field.color_net
        into = _into(back.seen, unused, back.unused, sums[2], frame)
        tile_gradients(
            color, frames, network, of_color, 0, rows, 0, seen_wide, hidden, color_buffers, back.color, NARROW, into
        )
        _add_color_inputs(rows, len(outs), directions, back)
        frames, network = frame_inputs(field, 1, frame, within.ends, speech), field.density_net
        to_space, to_special = to.space[first:], to.special[base:]
        into = _into(to_space, to_special, back.gates, sums[1], frame)
        tile_gradients(
            shape, frames, network, of_shape, 0, rows, 0, wide, hidden, density_buffers, back.out, outs, into
        )
        if count:
            of_special = to_special.reshape(-1)
            _slopes(within.places, 0, count, of_plane, back.slopes, of_special, field.audio, PLANE, back.places)
            _before_tanh(count, speech, within, back, to.places[base:])
            frames, network = frame_inputs(field, 0, frame, within.ends, within.ones), field.coordinate_net
            coordinate_inputs = plain(within.gathered, features, within, coordinate_buffers.zeros)
            into = _into(back.gathered, unused, back.unused, sums[0], frame)
            tile_gradients(
                coordinate_inputs,
                frames,
                network,
                of_coordinate,
                0,
                count,
                0,
                wide,
                hidden,
                coordinate_buffers,
                back.raw,
                NARROW,
                into,
            )
            _add_gathered(count, features, within, back, to_space)
        of_x = flat[first * features :]
        fade(of_x, features, field.lid_features, rows, closed)
        if len(to.positions):
            _slopes(to.points[first:], 0, rows, of_space, back.slopes, of_x, field.space, SPACE, back.points)
            _world_gradient(positions, index, first, rows, field.speech_gate, back, to.positions)


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
    index,
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
        positions, views, kept, density, rgb: of the forward pass.
        index: (found,) the samples that have a gradient, ascending.
        tiles: of these.
        to_density, to_rgb: (samples, 1), (samples, 3) the gradients of the last two.
        coordinate_matrices, density_matrices, color_matrices: see `Transposed`.
        wide, seen_wide: tuples of the padded inputs of the first two networks, and of the colour network.
        threads: how many.
        to: see `SampleGradients`; written.
        coordinate_sums, density_sums, color_sums: see `Sums`; added to.
    """
    for thread in prange(threads):
        # See `run_field`.
        face = FaceArrays(brow_gate, eye_gate, lips, brows, lids, openness)
        networks = (coordinate_net, density_net, color_net)
        field = Field(speech_gate, face, lid_features, space, audio, common, *networks, frame_rows, hidden, outs)
        within, back = tile_buffers(field, views, positions), _backward_buffers(field, views, positions)
        buffers_of_networks = (
            buffers_for(coordinate_net.layers, wide, hidden, outs, positions),
            buffers_for(density_net.layers, wide, hidden, outs, positions),
            buffers_for(color_net.layers, seen_wide, hidden, outs, positions),
        )
        outputs, matrices = (density, rgb, to_density, to_rgb), (coordinate_matrices, density_matrices, color_matrices)
        between = (scratch(positions, SPACE), scratch(positions, PLANE))
        sums = (_own(coordinate_sums, thread), _own(density_sums, thread), _own(color_sums, thread))
        state = ThreadState(
            *thread_tiles(len(tiles.first), threads, thread), between, within, back, buffers_of_networks, sums
        )
        _of_tiles(field, positions, views, index, tiles, kept, outputs, matrices, (wide, seen_wide), to, state)
