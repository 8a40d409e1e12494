"""The whole field at many samples of one frame, without gradients: one kernel for pictures on the CPU.

`TalkerField` asks grids and networks one after the other and moves what they say through memory in between. Here a tile
of samples goes through all of them while it stays in the cache; the parts are those of the other kernels.

Importing this module imports numba; import it where a picture is first rendered.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads, njit, prange
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.encodings.hash_grid import HashGrid
from ntalker_ns.encodings.numba_backend import arguments
from ntalker_ns.encodings.numba_common import FASTMATH, KERNEL_LOCK, kernel
from ntalker_ns.encodings.numba_kernels import encode, scratch
from ntalker_ns.field.mlp import FrameMLP
from ntalker_ns.field.numba_bends import Balls, FaceArrays, open_at, settle_at
from ntalker_ns.field.numba_mlp import pack, padded
from ntalker_ns.field.numba_mlp_kernels import TILE, Frames, Network, Samples, hidden_layers, last_layer

SPACE, PLANE = (0, 0, 0), (0, 0)
"""Tuples as long as there are axes and features of an entry: numbers that the compiler knows (see `numba_kernels`)."""
LANES = (0, 0)
NARROW = (0,) * padded(3)
"""As long as the padded outputs of the networks of the audio coordinate and of colour."""


class Grid(NamedTuple):
    """A hash grid."""

    table: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    dense: np.ndarray
    active: int


class PictureField:
    """A field at one frame, as pictures ask it."""

    def __init__(
        self,
        speech_gate: Balls,
        face: FaceArrays,
        lid_features: int,
        grids: tuple[HashGrid, HashGrid],
        active_levels: int,
        networks: tuple[FrameMLP, FrameMLP, FrameMLP],
        frames: tuple[Tensor, Tensor, Tensor | None],
    ) -> None:
        """
        Args:
            speech_gate: where speech acts.
            face: of the frame.
            lid_features: spatial features that stay where eyes close.
            grids: of space and of the audio coordinate.
            active_levels: levels of the grid of space in use.
            networks: of the audio coordinate, of density, of colour.
            frames: the row that each of them gets, (1, channels).
        """
        space, audio = grids
        self._face = (speech_gate, *face, lid_features)
        self._grids = (_grid(space, active_levels), _grid(audio, audio.layout.num_levels))
        self._common = audio(audio.table.new_full((1, 2), 0.5)).detach().view(-1)
        common = (self._common[:0], self._common, self._common[:0])
        self._outs = (0,) * padded(networks[1].out_dim)
        self._networks = tuple(
            _network(network, space.output_width, shared) for network, shared in zip(networks, common, strict=True)
        )
        rows = [_frame_row(network, row) for network, row in zip(networks, frames, strict=True)]
        self._rows = torch.cat(rows).numpy()

    def __call__(
        self, positions: Float[Tensor, "samples 3"]
    ) -> tuple[Float[Tensor, "samples 1"], Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
        """The density's logarithm, colour before the sigmoid, and audio motion, as `TalkerField.forward` has them.

        Args:
            positions: world, float32.
        """
        density, motion = positions.new_empty(len(positions), 1), positions.new_empty(len(positions), 1)
        rgb = torch.empty_like(positions)
        outputs = (density.view(-1).numpy(), rgb.numpy(), motion.view(-1).numpy())
        arguments = (*self._face, *self._grids, self._common.numpy(), *self._networks)
        widths = (0,) * self._rows.shape[1], self._outs
        with record_function("ask_picture_field"), KERNEL_LOCK:
            _ask(positions.contiguous().numpy(), *arguments, self._rows, *widths, get_num_threads(), *outputs)  # pyright: ignore[reportCallIssue]
        return density, rgb, motion


def _grid(grid: HashGrid, active_levels: int) -> Grid:
    table, shared = arguments(grid.table, grid.layout, active_levels)
    if shared.lanes != LANES or table.dtype != np.float32:
        raise ValueError("The kernel takes grids of two float32 features an entry.")
    return Grid(table, shared.scales, shared.offsets, shared.sizes, shared.dense, active_levels)


def _network(network: FrameMLP, inputs: int, common: Tensor) -> Network:
    weights, biases = ([each.detach().numpy() for each in part] for part in network.parameters_by_kind())
    # The colour network reads what the density network wrote, which ends with padding.
    weights[0] = np.pad(weights[0], ((0, 0), (0, padded(weights[0].shape[1]) - weights[0].shape[1])))
    return pack(weights, biases, inputs, common.numpy())


def _frame_row(network: FrameMLP, channels: Tensor | None) -> Float[Tensor, "1 hidden"]:
    """What the frame adds to a network's first layer."""
    if network.frame is None or channels is None:
        return torch.zeros(1, network.width)
    return network.frame(channels).detach()


@njit(inline="always")
def _encode(points, count, between, output, grid, axes):
    """The features of a tile of points."""
    scales, offsets, sizes, dense, active = grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active
    encode(points, 0, count, between, output, grid.table, scales, offsets, sizes, dense, active, axes, LANES)


@njit(fastmath=FASTMATH)
def _run(network, samples, rows, row, gates, hidden, outs, room, out):
    """A network on a tile of samples, whose outputs are padded; `row` is what the frame adds to its first layer."""
    nothing, ends, activations = room
    hidden_layers(samples, Frames(row, ends, gates), network, 0, rows, 0, hidden, nothing, activations)
    last_layer(network, rows, hidden, outs, nothing, activations, out)


@njit(inline="always")
def _settle(positions, first, rows, speech_gate, face, points, speech, last, place, inside):
    """Where a tile's samples are in the mean face with open eyes, in [0, 1]; how speech and closed eyes act on them.

    Returns how many speech acts on; `inside` says which they are.
    """
    one, half = np.float32(1), np.float32(0.5)
    count = 0
    for t in range(rows):
        x, y, z = positions[first + t, 0], positions[first + t, 1], positions[first + t, 2]
        speech[t], place[t] = open_at(x, y, z, speech_gate), -1
        if speech[t] > 0:
            place[t], inside[count] = count, t
            count += 1
        x, z, last[t] = settle_at(x, y, z, speech[t], 0, face)
        points[t, 0], points[t, 1], points[t, 2] = (x + one) * half, (y + one) * half, (z + one) * half
    return count


@njit(fastmath=FASTMATH)
def _fade(x, features, kept, rows, closed):
    """Fades finer features where eyes close."""
    for t in range(rows):
        if closed[t] > 0:
            for k in range(kept, features):
                x[t * features + k] *= np.float32(1) - closed[t]


@njit(fastmath=FASTMATH)
def _place(raw, count, inside, gates, first, places, motion):
    """The audio coordinates of the samples that speech acts on, in [0, 1], and their lengths."""
    one, half = np.float32(1), np.float32(0.5)
    for c in range(count):
        t = inside[c]
        x, y = gates[t] * np.tanh(raw[c * len(NARROW)]), gates[t] * np.tanh(raw[c * len(NARROW) + 1])
        motion[first + t] = np.sqrt(x * x + y * y)
        places[c, 0], places[c, 1] = (x + one) * half, (y + one) * half


@kernel
def _ask(
    positions,
    speech_gate,
    brow_gate,
    eye_gate,
    lips,
    brows,
    lids,
    openness,
    kept,
    space,
    audio,
    common,
    coordinate_net,
    density_net,
    color_net,
    frame_rows,
    hidden,
    outs,
    threads,
    density,
    rgb,
    motion,
):
    """Writes what `PictureField` gives."""
    kind, w, o, n = np.float32, len(hidden), len(outs), len(NARROW)
    tiles = (positions.shape[0] + TILE - 1) // TILE
    features, channels = len(space.scales) * len(LANES), len(common)
    layers = max(coordinate_net.layers, density_net.layers, color_net.layers)
    for thread in prange(threads):
        face = FaceArrays(
            brow_gate, eye_gate, lips, brows, lids, openness
        )  # parallel loops take in no tuples of tuples
        points, places = np.empty((TILE, 3), kind), np.empty((TILE, 2), kind)
        gates, ones, last = np.empty(TILE, kind), np.ones(TILE, kind), np.empty(TILE, kind)
        place, inside = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
        of_space, of_audio = scratch(points, SPACE), scratch(places, PLANE)
        x, special = np.empty(TILE * features, kind), np.empty(TILE * len(audio.scales) * len(LANES), kind)
        gathered, raw = np.empty(TILE * features, kind), np.empty(TILE * n, kind)
        out, colour = np.empty(TILE * o, kind), np.empty(TILE * n, kind)
        nothing = np.zeros(max(TILE, w, o), kind)
        room = nothing, np.full(1, TILE, np.int64), np.empty((layers - 1, TILE * w), kind)
        unused = np.empty(0, np.int64)
        begin, end = tiles * thread // threads, tiles * (thread + 1) // threads
        for number in range(begin, end):
            first = number * TILE
            rows = min(TILE, positions.shape[0] - first)
            count = _settle(positions, first, rows, speech_gate, face, points, gates, last, place, inside)
            _encode(points, rows, of_space, x, space, SPACE)
            _fade(x, features, kept, rows, last)
            motion[first : first + rows] = 0
            if count:
                for c in range(count):
                    for k in range(features):
                        gathered[c * features + k] = x[inside[c] * features + k]
                plain = Samples(gathered, features, nothing, 0, unused, nothing)
                _run(coordinate_net, plain, count, frame_rows[:1], ones, hidden, NARROW, room, raw)
                _place(raw, count, inside, gates, first, places, motion)
                _encode(places, count, of_audio, special, audio, PLANE)
                for c in range(count):
                    for k in range(channels):
                        special[c * channels + k] -= common[k]
            shaped = Samples(x, features, special, channels, place, last)
            _run(density_net, shaped, rows, frame_rows[1:2], gates, hidden, outs, room, out)
            coloured = Samples(out, o, nothing, 0, unused, nothing)
            _run(color_net, coloured, rows, frame_rows[2:], ones, hidden, NARROW, room, colour)
            for t in range(rows):
                density[first + t] = out[t * o]
                for k in range(3):
                    rgb[first + t, k] = colour[t * n + k]
