"""The whole field in one kernel, forward; `field_gradients` is the backward pass.

A tile of samples of one frame goes through grids and networks while it stays in the cache.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ntalker_ns.kernels.numba.common import inner, kernel, lean
from ntalker_ns.kernels.numba.hash_grid_kernels import encode, scratch
from ntalker_ns.kernels.numba.mlp import padded
from ntalker_ns.kernels.numba.mlp_kernels import (
    TILE,
    Frames,
    Network,
    Samples,
    buffers_for,
    hidden_layers,
    last_layer,
    thread_tiles,
)
from ntalker_ns.kernels.numba.warp import Balls, FaceArrays, canonical_at, open_at

SPACE, PLANE = (0, 0, 0), (0, 0)
"""Tuples whose lengths are the numbers of axes and of features per entry: constants at compile time."""
LANES = (0, 0)
NARROW = (0,) * padded(3)
"""Of the padded outputs of the audio coordinate's and the colour network."""


class Grid(NamedTuple):
    """A hash grid."""

    table: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    dense: np.ndarray
    active: int


class Field(NamedTuple):
    """A field at some frames."""

    speech_gate: Balls
    face: FaceArrays
    lid_features: int
    """Spatial features that stay where eyes close."""
    space: Grid
    audio: Grid
    common: np.ndarray
    """(channels,) the audio grid's features at the origin."""
    coordinate_net: Network
    density_net: Network
    color_net: Network
    rows: np.ndarray
    """(3, frames, hidden) what each frame adds to the networks' first layers."""
    hidden: tuple[int, ...]
    outs: tuple[int, ...]
    """Tuples of the widths of hidden layers and of the density network's padded outputs."""


class Tiles(NamedTuple):
    """Samples in tiles of one frame each."""

    first: np.ndarray
    """(tiles,) the first sample."""
    rows: np.ndarray
    """(tiles,) samples."""
    frame: np.ndarray
    """(tiles,)."""


class Views(NamedTuple):
    """Encoded viewing directions."""

    values: np.ndarray
    """(rays, components); no components where colour does not depend on direction."""
    rays: np.ndarray
    """(samples,) the ray of each sample."""


class Kept(NamedTuple):
    """Intermediate values that the backward pass needs; without gradients, of one tile per thread."""

    points: np.ndarray
    """(samples, 3) canonical positions, in [0, 1]."""
    space: np.ndarray
    """(samples * features,) features of the space grid."""
    speech: np.ndarray
    """(samples,) the speech gate."""
    closed: np.ndarray
    """(samples,) how far eyes are closed."""


class TileBuffers(NamedTuple):
    """A thread's intermediate values of a tile, beside the networks' own."""

    features: int
    """Of the space grid."""
    places: np.ndarray
    """(TILE, 2) audio coordinates of the samples that speech acts on, in [0, 1]."""
    special: np.ndarray
    """(TILE * channels,) the audio grid's features there less the common values."""
    gathered: np.ndarray
    """(TILE * features,) the space grid's features of these samples."""
    raw: np.ndarray
    """(TILE * NARROW,) outputs of the audio coordinate's network for them."""
    out: np.ndarray
    """(TILE * outs,) outputs of the density network."""
    seen: np.ndarray
    """(TILE * (directions + outs),) inputs of the colour network; `out` where there are no directions."""
    color: np.ndarray
    """(TILE * NARROW,) outputs of the colour network."""
    place: np.ndarray
    """(TILE,) the row of each sample among those that speech acts on, -1 for none."""
    inside: np.ndarray
    """(TILE,) these samples."""
    ones: np.ndarray
    """(TILE,)."""
    ends: np.ndarray
    """(1,) index behind the tile's only frame."""


@inner
def tile_buffers(field, views, kind):
    """A thread's buffers."""
    features, channels, outs = len(field.space.scales) * len(LANES), len(field.common), len(field.outs)
    directions, out = views.values.shape[1], np.empty(TILE * outs, kind.dtype)
    return TileBuffers(
        features,
        np.empty((TILE, 2), kind.dtype),
        np.empty(TILE * channels, kind.dtype),
        np.empty(TILE * features, kind.dtype),
        np.empty(TILE * len(NARROW), kind.dtype),
        out,
        np.empty(TILE * (directions + outs), kind.dtype) if directions else out,
        np.empty(TILE * len(NARROW), kind.dtype),
        np.empty(TILE, np.int64),
        np.empty(TILE, np.int64),
        np.ones(TILE, kind.dtype),
        np.full(1, TILE, np.int64),
    )


@njit(inline="always")
def _encode_tile(points, first, count, between, output, grid, axes):
    """The features of a tile of points."""
    scales, offsets, sizes, dense, active = grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active
    encode(points, first, count, between, output, grid.table, scales, offsets, sizes, dense, active, axes, LANES)


@njit(inline="always")
def _to_canonical(positions, first, rows, frame, speech_gate, face, points, speech, closed):
    """Canonical positions of a tile's samples, in [0, 1]; their speech gates and how far eyes are closed there."""
    one, half = np.float32(1), np.float32(0.5)
    for t in range(rows):
        x, y, z = positions[first + t, 0], positions[first + t, 1], positions[first + t, 2]
        speech[t] = open_at(x, y, z, speech_gate)
        x, z, closed[t] = canonical_at(x, y, z, speech[t], frame, face)
        points[t, 0], points[t, 1], points[t, 2] = (x + one) * half, (y + one) * half, (z + one) * half


@lean
def _find_spoken(speech, rows, within):
    """Finds the samples of a tile that speech acts on; returns how many."""
    count = 0
    for t in range(rows):
        within.place[t] = -1
        if speech[t] > 0:
            within.place[t], within.inside[count] = count, t
            count += 1
    return count


@lean
def fade(x, features, kept, rows, closed):
    """Fades finer features where eyes close."""
    for t in range(rows):
        if closed[t] > 0:
            for k in range(kept, features):
                x[t * features + k] *= np.float32(1) - closed[t]


@njit(inline="always")
def plain(x, inputs, within, zeros):
    """Samples without sparse channels."""
    return Samples(x, inputs, zeros, 0, within.place[:0], zeros)


@njit(inline="always")
def frame_inputs(field, network, frame, ends, gates):
    """What a frame adds to the first layer of a network: 0 audio coordinate, 1 density, 2 colour."""
    return Frames(field.rows[network, frame : frame + 1], ends, gates)


@njit(inline="always")
def _audio_features(field, x, speech, frame, count, of_plane, within, buffers):
    """Writes the audio grid's features of the samples of a tile that speech acts on into `within.special`."""
    features, channels, n = within.features, len(field.common), len(NARROW)
    one, half = np.float32(1), np.float32(0.5)
    for c in range(count):
        for k in range(features):
            within.gathered[c * features + k] = x[within.inside[c] * features + k]
    inputs, network = plain(within.gathered, features, within, buffers.zeros), field.coordinate_net
    frames = frame_inputs(field, 0, frame, within.ends, within.ones)
    hidden_layers(inputs, frames, network, 0, count, 0, field.hidden, buffers.zeros, buffers.activations)
    last_layer(network, count, field.hidden, NARROW, buffers.zeros, buffers.activations, within.raw)
    for c in range(count):
        for axis in range(2):
            within.raw[c * n + axis] = np.tanh(within.raw[c * n + axis])
            within.places[c, axis] = (speech[within.inside[c]] * within.raw[c * n + axis] + one) * half
    _encode_tile(within.places, 0, count, of_plane, within.special, field.audio, PLANE)
    for c in range(count):
        for k in range(channels):
            within.special[c * channels + k] -= field.common[k]


@lean
def _add_views(views, rays, rows, outs, within):
    """Writes the colour network's inputs: viewing directions, then the density network's outputs."""
    directions = views.shape[1]
    width = directions + outs
    for t in range(rows if directions else 0):
        for k in range(directions):
            within.seen[t * width + k] = views[rays[t], k]
        for k in range(outs):
            within.seen[t * width + directions + k] = within.out[t * outs + k]


@njit(inline="always")
def to_color(field, views, rays, x, speech, closed, rows, frame, of_plane, within, buffers_of_networks):
    """Takes a tile from the space grid's features up to the last hidden layer of colour.

    Args:
        field: see there.
        views: the values of `Views`.
        rays: of the tile's samples.
        x: (rows * features,) the space grid's features.
        speech, closed: see `Kept`; of the tile's samples.
        rows: samples of the tile.
        frame: of the tile.
        of_plane: scratch of the audio grid.
        within: written.
        buffers_of_networks: of the three networks; their activations are written.

    Returns:
        How many samples speech acts on, and the inputs of the density and the colour network.
    """
    coordinate_buffers, density_buffers, color_buffers = buffers_of_networks
    hidden, outs = field.hidden, field.outs
    count = _find_spoken(speech, rows, within)
    if count:
        _audio_features(field, x, speech, frame, count, of_plane, within, coordinate_buffers)
    shape = Samples(x, within.features, within.special, len(field.common), within.place[:rows], closed)
    network, frames = field.density_net, frame_inputs(field, 1, frame, within.ends, speech)
    hidden_layers(shape, frames, network, 0, rows, 0, hidden, density_buffers.zeros, density_buffers.activations)
    last_layer(network, rows, hidden, outs, density_buffers.zeros, density_buffers.activations, within.out)
    _add_views(views, rays, rows, len(outs), within)
    color = plain(within.seen, views.shape[1] + len(outs), within, color_buffers.zeros)
    frames = frame_inputs(field, 2, frame, within.ends, within.ones)
    hidden_layers(color, frames, field.color_net, 0, rows, 0, hidden, color_buffers.zeros, color_buffers.activations)
    return count, shape, color


@lean
def _run_tiles(field, positions, views, tiles, begin, end, kept, place, between, within, buffers, outputs):
    """Writes the outputs of some tiles; `place` is their index in `kept`, -1 for that of their samples."""
    outs, features, buffers_of_networks = len(field.outs), within.features, (buffers, buffers, buffers)
    of_space, of_plane = between
    for number in range(begin, end):
        first, rows, frame = tiles.first[number], tiles.rows[number], tiles.frame[number]
        at = first if place < 0 else place
        points, x, speech, closed = kept.points[at:], kept.space[at * features :], kept.speech[at:], kept.closed[at:]
        _to_canonical(positions, first, rows, frame, field.speech_gate, field.face, points, speech, closed)
        _encode_tile(points, 0, rows, of_space, x, field.space, SPACE)
        fade(x, features, field.lid_features, rows, closed)
        rays = views.rays[first:]
        to_color(field, views.values, rays, x, speech, closed, rows, frame, of_plane, within, buffers_of_networks)
        last_layer(field.color_net, rows, field.hidden, NARROW, buffers.zeros, buffers.activations, within.color)
        _write_outputs(first, rows, outs, speech, within, outputs)


@lean
def _write_outputs(first, rows, outs, speech, within, outputs):
    """Writes the outputs of a tile."""
    density, rgb, motion = outputs
    one, most, n = np.float32(1), np.float32(15), len(NARROW)
    for t in range(rows):
        # As `truncated_exp`; NaN stays.
        logarithm = within.out[t * outs]
        density[first + t] = np.exp(most if logarithm > most else logarithm)
        for k in range(3):
            rgb[first + t, k] = one / (one + np.exp(-within.color[t * n + k]))
        motion[first + t] = 0
        if within.place[t] >= 0:
            along, up = within.raw[within.place[t] * n], within.raw[within.place[t] * n + 1]
            motion[first + t] = speech[t] * np.sqrt(along * along + up * up)


@kernel
def run_field(
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
    keeps,
    threads,
    density,
    rgb,
    motion,
):
    """Writes the values at positions of the field that the first arguments make.

    Args:
        positions: (samples, 3) world.
        views, tiles: see the classes.
        kept: of all samples if `keeps`, otherwise of one tile per thread.
        threads: how many.
        density, rgb, motion: (samples,), (samples, 3), (samples,), written.
    """
    layers = max(coordinate_net.layers, density_net.layers, color_net.layers)
    for thread in prange(threads):
        # Parallel loops accept no nested tuples, and lose writes to parts of a tuple: functions do that.
        face = FaceArrays(brow_gate, eye_gate, lips, brows, lids, openness)
        networks = (coordinate_net, density_net, color_net)
        field = Field(speech_gate, face, lid_features, space, audio, common, *networks, frame_rows, hidden, outs)
        within = tile_buffers(field, views, positions)
        buffers = buffers_for(layers, NARROW, hidden, outs, positions)
        begin, end = thread_tiles(len(tiles.first), threads, thread)
        place = -1 if keeps else thread * TILE
        between, outputs = (scratch(positions, SPACE), scratch(positions, PLANE)), (density, rgb, motion)
        _run_tiles(field, positions, views, tiles, begin, end, kept, place, between, within, buffers, outputs)
