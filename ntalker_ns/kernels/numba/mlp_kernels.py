"""Kernels of a small ReLU network: all layers of a tile of samples at once.

Layer by layer over all samples, a network of 64 channels spends its time moving activations through memory. Here a
thread takes a tile of samples through all layers while activations stay in the first-level cache; the backward pass
recomputes them.

Some input channels are the same for most samples (`kernels.ragged.SparseInputs`). The contribution of the common values
is part of the first layer's bias, and special samples add the difference; they mostly lie in runs, each one product.

`hidden` and `outs` are tuples whose lengths are the widths of a hidden layer and of the padded output layer: constants
at compile time.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ntalker_ns.kernels.numba.common import inner, kernel, lean
from ntalker_ns.kernels.numba.products import linear_layer, multiply_add, rectified_layer

TILE = 64
"""Samples that go through the network together."""


class Samples(NamedTuple):
    """Input channels of the samples."""

    x: np.ndarray
    """(N * inputs,), row after row."""
    inputs: int
    """Channels of x."""
    special: np.ndarray
    """(G * channels,) difference of special samples' sparse channels from the common values."""
    channels: int
    """Sparse channels."""
    place: np.ndarray
    """(N,) each sample's row in `special`, ascending, -1 for none; empty without sparse channels."""
    last: np.ndarray
    """(N,) the last input channel, mostly 0; empty without sparse channels."""


class Frames(NamedTuple):
    """What frames add to the first layer."""

    rows: np.ndarray
    """(frames, hidden)."""
    ends: np.ndarray
    """(frames,) where each frame's samples end."""
    gates: np.ndarray
    """(N,) each sample's factor on its frame's row."""


class Network(NamedTuple):
    """Parameters: matrices as (in, out), the last matrix and bias padded to whole vectors."""

    start: np.ndarray
    """(hidden,) the first layer's bias and the contribution of the common values."""
    first_weights: np.ndarray
    """The first matrix: rows of the channels of x, of the sparse ones, of the last one."""
    weights: np.ndarray
    """The other matrices, concatenated."""
    biases: np.ndarray
    """Of all layers, concatenated."""
    layers: int
    """Linear layers, at least 2."""


class Transposed(NamedTuple):
    """The matrices as (out, in)."""

    inputs: np.ndarray
    """The first matrix's columns for the channels of x, padded to the length of `wide`."""
    channels: np.ndarray
    """Its columns for the sparse channels, padded in the same way."""
    weights: np.ndarray
    """The other matrices, concatenated."""


class Gradients(NamedTuple):
    """Where gradients are written to; the last four are sums per thread."""

    x: np.ndarray
    """(N, inputs)."""
    special: np.ndarray
    """(G, channels)."""
    gates: np.ndarray
    """(N,)."""
    rows: np.ndarray
    """(threads, frames, hidden)."""
    first_weights: np.ndarray
    """(threads, ...) as in `Network`, as the next two."""
    weights: np.ndarray
    biases: np.ndarray


class Buffers(NamedTuple):
    """A thread's intermediate values."""

    activations: np.ndarray
    """(layers - 1, TILE * hidden)."""
    into: np.ndarray
    """(TILE * hidden,) the gradient of a layer's outputs, as the next."""
    inner: np.ndarray
    x_out: np.ndarray
    """(TILE * wide,) the gradient of the padded inputs."""
    zeros: np.ndarray
    """As many as the widest layer has."""


@lean
def _rectify(count, c):
    """ReLU in place; NaN stays."""
    zero = c.dtype.type(0)
    for i in range(count):
        c[i] = zero if c[i] < zero else c[i]


@lean
def _block(count, activations, gradient):
    """Zeroes a gradient where the ReLU's output is 0."""
    zero = gradient.dtype.type(0)
    for i in range(count):
        gradient[i] = gradient[i] if activations[i] > zero else zero


@lean
def _add_rows(rows, gradient, width, total):
    """Adds the sum over rows to a bias's gradient."""
    w = len(width)
    for t in range(rows):
        for j in range(w):
            total[j] += gradient[t * w + j]


@lean
def _has_special(place, last, first, rows):
    """Whether a tile has special samples."""
    for t in range(first, min(first + rows, len(place))):  # noqa: SIM110 (the compiler has no `any`)
        if place[t] >= 0 or last[t] != 0:
            return True
    return False


@njit(inline="always")
def _next_run(place, first, rows, begin):
    """The next run of special samples in a tile from `begin` on: where it begins and ends, and its row in `special`."""
    while begin < rows and place[first + begin] < 0:
        begin += 1
    end = begin
    while end < rows and place[first + end] >= 0:
        end += 1
    return begin, end, place[first + begin] if begin < rows else 0


@lean
def hidden_layers(samples, frames, network, first, rows, frame, hidden, zeros, activations):
    """Writes the activations of all hidden layers of a tile; returns the frame of its last sample.

    Args:
        samples: see `Samples`.
        frames: see `Frames`.
        network: see `Network`.
        first: sample of the tile.
        rows: samples of the tile.
        frame: of the sample before the tile.
        hidden: a tuple of the width of a layer.
        zeros: at least as many as a layer is wide.
        activations: (layers - 1, TILE * hidden), written.
    """
    w, begun, start, first_weights = len(hidden), 0, network.start, network.first_weights
    inputs, channels = samples.inputs, samples.channels
    own = _has_special(samples.place, samples.last, first, rows)
    while begun < rows:
        at = first + begun
        while at >= frames.ends[frame]:
            frame += 1
        count, row, factors = min(rows, frames.ends[frame] - first) - begun, frames.rows[frame], frames.gates[at:]
        part, out = samples.x[at * inputs :], activations[0, begun * w :]
        if own:
            linear_layer(part, inputs, 1, count, inputs, first_weights, hidden, out, start, factors, row)
        else:
            rectified_layer(part, inputs, 1, count, inputs, first_weights, hidden, out, start, factors, row)
        begun += count
    if own:
        end = 0
        while end < rows:
            begin, end, found = _next_run(samples.place, first, rows, end)
            part, further = samples.special[found * channels :], first_weights[inputs * w :]
            multiply_add(part, channels, 1, end - begin, channels, further, hidden, activations[0, begin * w :])
        of_last = first_weights[(inputs + channels) * w :]
        multiply_add(samples.last[first:], 1, 1, rows, 1, of_last, hidden, activations[0])
        _rectify(rows * w, activations[0])
    for layer in range(1, network.layers - 1):
        matrix, bias = network.weights[(layer - 1) * w * w :], network.biases[layer * w :]
        before, out = activations[layer - 1], activations[layer]
        rectified_layer(before, w, 1, rows, w, matrix, hidden, out, bias, zeros, zeros)
    return frame


@lean
def last_layer(network, rows, hidden, outs, zeros, activations, out):
    """Writes the padded outputs of a tile whose hidden activations are known."""
    w, layers = len(hidden), network.layers
    matrix, bias = network.weights[(layers - 2) * w * w :], network.biases[(layers - 1) * w :]
    linear_layer(activations[layers - 2], w, 1, rows, w, matrix, outs, out, bias, zeros, zeros)


@njit(inline="always")
def thread_tiles(tiles, threads, thread):
    """The contiguous range of tiles of a thread."""
    return tiles * thread // threads, tiles * (thread + 1) // threads


@kernel
def forward(samples, frames, network, hidden, outs, threads, y):
    """Writes the network's outputs of all samples into `y` (N, outputs); `outs` may be longer."""
    w, o, outputs, kind = len(hidden), len(outs), y.shape[1], y.dtype
    tiles = (y.shape[0] + TILE - 1) // TILE
    for thread in prange(threads):
        activations = np.empty((network.layers - 1, TILE * w), kind)
        out, zeros = np.empty(TILE * o, kind), np.zeros(max(TILE, w, o), kind)
        frame = 0
        begin, end = thread_tiles(tiles, threads, thread)
        for number in range(begin, end):
            first = number * TILE
            rows = min(TILE, y.shape[0] - first)
            frame = hidden_layers(samples, frames, network, first, rows, frame, hidden, zeros, activations)
            last_layer(network, rows, hidden, outs, zeros, activations, out)
            for t in range(rows):
                for j in range(outputs):
                    y[first + t, j] = out[t * o + j]


@lean
def _frame_gradients(first, rows, gradient, frames, frame, width, to_rows, to_gates):
    """Adds the first layer's gradient to the frames' rows, and writes that of the gates."""
    w = len(width)
    for t in range(rows):
        while first + t >= frames.ends[frame]:
            frame += 1
        gate, row, total = frames.gates[first + t], frames.rows[frame], to_rows[frame]
        along = gate - gate
        for j in range(w):
            total[j] += gate * gradient[t * w + j]
            along += row[j] * gradient[t * w + j]
        to_gates[first + t] = along


@lean
def _input_gradient(gradient, count, transposed, hidden, width, zeros, out, channels, into, row):
    """Writes the gradient of some samples' inputs into rows of `into` from `row` on."""
    w, i = len(hidden), len(width)
    linear_layer(gradient, w, 1, count, w, transposed, width, out, zeros, zeros, zeros)
    for t in range(count):
        for k in range(channels):
            into[row + t, k] = out[t * i + k]


@lean
def _special_gradients(samples, first, rows, gradient, transposed, hidden, wide, buffers, to):
    """The gradients of `special` and of the first matrix's rows for the sparse channels and the last one."""
    w, inputs, channels, total = len(hidden), samples.inputs, samples.channels, to.first_weights
    end = 0
    while end < rows:
        begin, end, found = _next_run(samples.place, first, rows, end)
        part, of_run, count = samples.special[found * channels :], gradient[begin * w :], end - begin
        multiply_add(part, 1, channels, channels, count, of_run, hidden, total[inputs * w :])
        _input_gradient(
            of_run, count, transposed, hidden, wide, buffers.zeros, buffers.x_out, channels, to.special, found
        )
    multiply_add(samples.last[first:], 1, 1, 1, rows, gradient, hidden, total[(inputs + channels) * w :])


@lean
def tile_gradients(
    samples, frames, network, transposed, first, rows, frame, wide, hidden, buffers, out_gradient, outs, to
):
    """A tile's gradients of everything but `last`.

    Args:
        samples, frames, network, transposed: see the classes.
        first: sample of the tile.
        rows: samples of the tile.
        frame: of the sample before the tile.
        wide: a tuple of the padded inputs of the first matrix.
        hidden, outs: see above.
        buffers: with the tile's `activations`.
        out_gradient: (TILE * outs,) of the padded outputs.
        to: where gradients are written to, the sums without the axis of threads.
    """
    w, inputs, layers, zeros = len(hidden), samples.inputs, network.layers, buffers.zeros
    activations, into, inner = buffers.activations, buffers.into, buffers.inner
    at = (layers - 2) * w * w
    multiply_add(activations[layers - 2], 1, w, w, rows, out_gradient, outs, to.weights[at:])
    _add_rows(rows, out_gradient, outs, to.biases[(layers - 1) * w :])
    linear_layer(
        out_gradient, len(outs), 1, rows, len(outs), transposed.weights[at:], hidden, into, zeros, zeros, zeros
    )
    _block(rows * w, activations[layers - 2], into)
    for layer in range(layers - 2, 0, -1):
        at = (layer - 1) * w * w
        multiply_add(activations[layer - 1], 1, w, w, rows, into, hidden, to.weights[at:])
        _add_rows(rows, into, hidden, to.biases[layer * w :])
        linear_layer(into, w, 1, rows, w, transposed.weights[at:], hidden, inner, zeros, zeros, zeros)
        _block(rows * w, activations[layer - 1], inner)
        into, inner = inner, into
    multiply_add(samples.x[first * inputs :], 1, inputs, inputs, rows, into, hidden, to.first_weights)
    _add_rows(rows, into, hidden, to.biases)
    _frame_gradients(first, rows, into, frames, frame, hidden, to.rows, to.gates)
    _input_gradient(into, rows, transposed.inputs, hidden, wide, zeros, buffers.x_out, inputs, to.x, first)
    if _has_special(samples.place, samples.last, first, rows):
        _special_gradients(samples, first, rows, into, transposed.channels, hidden, wide, buffers, to)


@inner
def buffers_for(layers, wide, hidden, outs, kind):
    """A thread's buffers for networks of at most so many layers and so wide."""
    w, i = len(hidden), len(wide)
    return Buffers(
        np.empty((layers - 1, TILE * w), kind.dtype),
        np.empty(TILE * w, kind.dtype),
        np.empty(TILE * w, kind.dtype),
        np.empty(TILE * i, kind.dtype),
        np.zeros(max(TILE, w, len(outs), i), kind.dtype),
    )


@kernel
def backward(samples, frames, network, transposed, wide, hidden, outs, threads, y_gradient, to):
    """The gradients of everything but `last`, from `y_gradient` (N, outputs), into `to`, see `tile_gradients`."""
    o, outputs = len(outs), y_gradient.shape[1]
    tiles = (y_gradient.shape[0] + TILE - 1) // TILE
    for thread in prange(threads):
        buffers = buffers_for(network.layers, wide, hidden, outs, y_gradient)
        out = np.zeros(TILE * o, y_gradient.dtype)
        sums = (to.rows[thread], to.first_weights[thread], to.weights[thread], to.biases[thread])
        into = Gradients(to.x, to.special, to.gates, *sums)
        frame = 0
        begin, end = thread_tiles(tiles, threads, thread)
        for number in range(begin, end):
            first, before = number * TILE, frame
            rows = min(TILE, y_gradient.shape[0] - first)
            frame = hidden_layers(
                samples, frames, network, first, rows, before, hidden, buffers.zeros, buffers.activations
            )
            for t in range(rows):
                for j in range(outputs):
                    out[t * o + j] = y_gradient[first + t, j]
            tile_gradients(
                samples, frames, network, transposed, first, rows, before, wide, hidden, buffers, out, outs, into
            )
