"""Numba kernels of a small ReLU network on many samples: all layers of a tile of samples in one go.

One layer after the other over all samples, a network of 64 channels spends its time moving activations to memory and
back. Here a thread takes a tile of samples through all layers while its activations stay in the first-level cache; the
backward pass computes them again instead of having stored them.

Some input channels are the same for most samples (`segments.SparseInputs`). What the common values add is part of the
first layer's bias, and samples with values of their own get the difference: they lie in runs, mostly, and each run is
one product.

Arguments shared by the kernels:
    x: (N * inputs,) samples, row after row; inputs: their channels.
    special: (G * channels,) by how much the further channels of some samples differ from the common values.
    place: (N,) each sample's row in `special`, ascending, -1 for none; empty where there are no further channels.
    last: (N,) the last input channel, mostly 0; empty where there are no further channels.
    start: (hidden,) the first layer's bias and what the common values add to it.
    frame_rows: (frames, hidden) what each frame adds to the first layer.
    ends: (frames,) where each frame's samples end.
    gates: (N,) each sample's factor on its frame's row.
    first_weights: the first matrix as (channels in, hidden): those of x, the further ones, the last one.
    weights: the other matrices, one after the other, as (channels in, channels out).
    biases: of all layers, one after the other.
    layers: linear layers, at least 2.
    hidden, outs: tuples as long as a hidden layer and the padded output layer are wide.
    y: (N, outputs) where outputs may be fewer than the padded output's channels.
"""

import numpy as np
from numba import njit, prange

from ntalker_ns.field.numba_products import FASTMATH, linear_layer, multiply_add, rectified_layer

TILE = 64
"""Samples that go through the network together."""


@njit(fastmath=FASTMATH)
def _rectify(count, c):
    """ReLU in place; NaN stays."""
    zero = c.dtype.type(0)
    for i in range(count):
        c[i] = zero if c[i] < zero else c[i]


@njit(fastmath=FASTMATH)
def _block(count, activations, gradient):
    """Zeroes a gradient where ReLU let nothing through."""
    zero = gradient.dtype.type(0)
    for i in range(count):
        gradient[i] = gradient[i] if activations[i] > zero else zero


@njit(fastmath=FASTMATH)
def _add_rows(rows, gradient, width, total):
    """Adds the sum over rows to a bias's gradient."""
    w = len(width)
    for t in range(rows):
        for j in range(w):
            total[j] += gradient[t * w + j]


@njit(fastmath=FASTMATH)
def _has_own(place, last, first, rows):
    """Whether samples of a tile have further channels of their own."""
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


@njit(fastmath=FASTMATH)
def hidden_layers(
    x,
    inputs,
    special,
    channels,
    place,
    last,
    start,
    first,
    rows,
    frame_rows,
    ends,
    gates,
    frame,
    first_weights,
    weights,
    biases,
    layers,
    hidden,
    nothing,
    activations,
):
    """Writes the activations of all hidden layers of a tile; returns the frame of its last sample."""
    w, begun = len(hidden), 0
    own = _has_own(place, last, first, rows)
    while begun < rows:
        at = first + begun
        while at >= ends[frame]:
            frame += 1
        count, row, factors = min(rows, ends[frame] - first) - begun, frame_rows[frame], gates[at:]
        part, out = x[at * inputs :], activations[0, begun * w :]
        if own:
            linear_layer(part, inputs, 1, count, inputs, first_weights, hidden, out, start, factors, row)
        else:
            rectified_layer(part, inputs, 1, count, inputs, first_weights, hidden, out, start, factors, row)
        begun += count
    if own:
        end = 0
        while end < rows:
            begin, end, found = _next_run(place, first, rows, end)
            part, further = special[found * channels :], first_weights[inputs * w :]
            multiply_add(part, channels, 1, end - begin, channels, further, hidden, activations[0, begin * w :])
        multiply_add(last[first:], 1, 1, rows, 1, first_weights[(inputs + channels) * w :], hidden, activations[0])
        _rectify(rows * w, activations[0])
    for layer in range(1, layers - 1):
        matrix, bias = weights[(layer - 1) * w * w :], biases[layer * w :]
        before, out = activations[layer - 1], activations[layer]
        rectified_layer(before, w, 1, rows, w, matrix, hidden, out, bias, nothing, nothing)
    return frame


@njit(inline="always")
def _share(tiles, threads, thread):
    """The tiles of a thread: as many for each, side by side."""
    return tiles * thread // threads, tiles * (thread + 1) // threads


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def forward(
    x,
    inputs,
    special,
    channels,
    place,
    last,
    start,
    frame_rows,
    ends,
    gates,
    first_weights,
    weights,
    biases,
    layers,
    hidden,
    outs,
    threads,
    y,
):
    """Writes the network's outputs of all samples into `y`."""
    w, o, outputs = len(hidden), len(outs), y.shape[1]
    tiles = (y.shape[0] + TILE - 1) // TILE
    for thread in prange(threads):
        activations = np.empty((layers - 1, TILE * w), x.dtype)
        out, nothing = np.empty(TILE * o, x.dtype), np.zeros(max(TILE, w, o), x.dtype)
        final, bias = weights[(layers - 2) * w * w :], biases[(layers - 1) * w :]
        frame = 0
        begin, end = _share(tiles, threads, thread)
        for number in range(begin, end):
            first = number * TILE
            rows = min(TILE, y.shape[0] - first)
            frame = hidden_layers(
                x,
                inputs,
                special,
                channels,
                place,
                last,
                start,
                first,
                rows,
                frame_rows,
                ends,
                gates,
                frame,
                first_weights,
                weights,
                biases,
                layers,
                hidden,
                nothing,
                activations,
            )
            linear_layer(activations[layers - 2], w, 1, rows, w, final, outs, out, bias, nothing, nothing)
            for t in range(rows):
                for j in range(outputs):
                    y[first + t, j] = out[t * o + j]


@njit(fastmath=FASTMATH)
def _frame_gradients(first, rows, gradient, frame_rows, ends, gates, frame, width, rows_gradient, gates_gradient):
    """The first layer's gradient, shared out to the frames' rows and the gates; returns the last sample's frame."""
    w = len(width)
    for t in range(rows):
        while first + t >= ends[frame]:
            frame += 1
        gate, row, total = gates[first + t], frame_rows[frame], rows_gradient[frame]
        along = gate - gate
        for j in range(w):
            total[j] += gate * gradient[t * w + j]
            along += row[j] * gradient[t * w + j]
        gates_gradient[first + t] = along
    return frame


@njit(fastmath=FASTMATH)
def _input_gradient(gradient, begin, end, transposed, hidden, width, nothing, out, channels, into, row):
    """Writes the gradient of some samples' inputs into rows of `into` from `row` on."""
    w, i = len(hidden), len(width)
    linear_layer(gradient[begin * w :], w, 1, end - begin, w, transposed, width, out, nothing, nothing, nothing)
    for t in range(end - begin):
        for k in range(channels):
            into[row + t, k] = out[t * i + k]


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def backward(
    x,
    inputs,
    special,
    channels,
    place,
    last,
    start,
    frame_rows,
    ends,
    gates,
    first_weights,
    weights,
    biases,
    transposed_inputs,
    transposed_channels,
    transposed,
    layers,
    wide,
    hidden,
    outs,
    threads,
    y_gradient,
    to_x,
    to_special,
    to_gates,
    to_rows,
    to_first_weights,
    to_weights,
    to_biases,
):
    """The gradients of everything but `last`, from `y_gradient` (N, outputs).

    `transposed` holds the matrices of `weights` as (channels out, channels in), `transposed_inputs` and
    `transposed_channels` the two parts of the first one, their channels in padded to the length of `wide`. to_x is (N,
    inputs) and to_special (G, channels). The last four are sums, one for each thread: (threads, ...).
    """
    i, w, o, outputs = len(wide), len(hidden), len(outs), y_gradient.shape[1]
    tiles = (y_gradient.shape[0] + TILE - 1) // TILE
    for thread in prange(threads):
        activations = np.empty((layers - 1, TILE * w), x.dtype)
        out, nothing = np.zeros(TILE * o, x.dtype), np.zeros(max(TILE, w, o, i), x.dtype)
        into, inner = np.empty(TILE * w, x.dtype), np.empty(TILE * w, x.dtype)
        x_out = np.empty(TILE * i, x.dtype)
        first_total, total, bias_total = to_first_weights[thread], to_weights[thread], to_biases[thread]
        before, frame = 0, 0
        begin, end = _share(tiles, threads, thread)
        for number in range(begin, end):
            first = number * TILE
            rows = min(TILE, y_gradient.shape[0] - first)
            before = frame
            frame = hidden_layers(
                x,
                inputs,
                special,
                channels,
                place,
                last,
                start,
                first,
                rows,
                frame_rows,
                ends,
                gates,
                frame,
                first_weights,
                weights,
                biases,
                layers,
                hidden,
                nothing,
                activations,
            )
            for t in range(rows):
                for j in range(outputs):
                    out[t * o + j] = y_gradient[first + t, j]
            at = (layers - 2) * w * w
            multiply_add(activations[layers - 2], 1, w, w, rows, out, outs, total[at:])
            _add_rows(rows, out, outs, bias_total[(layers - 1) * w :])
            linear_layer(out, o, 1, rows, o, transposed[at:], hidden, into, nothing, nothing, nothing)
            _block(rows * w, activations[layers - 2], into)
            for layer in range(layers - 2, 0, -1):
                at = (layer - 1) * w * w
                multiply_add(activations[layer - 1], 1, w, w, rows, into, hidden, total[at:])
                _add_rows(rows, into, hidden, bias_total[layer * w :])
                linear_layer(into, w, 1, rows, w, transposed[at:], hidden, inner, nothing, nothing, nothing)
                _block(rows * w, activations[layer - 1], inner)
                into, inner = inner, into
            multiply_add(x[first * inputs :], 1, inputs, inputs, rows, into, hidden, first_total)
            _add_rows(rows, into, hidden, bias_total)
            _frame_gradients(first, rows, into, frame_rows, ends, gates, before, hidden, to_rows[thread], to_gates)
            _input_gradient(into, 0, rows, transposed_inputs, hidden, wide, nothing, x_out, inputs, to_x, first)
            if _has_own(place, last, first, rows):
                run_end = 0
                while run_end < rows:
                    run, run_end, found = _next_run(place, first, rows, run_end)
                    part, of_run = special[found * channels :], into[run * w :]
                    further = first_total[inputs * w :]
                    multiply_add(part, 1, channels, channels, run_end - run, of_run, hidden, further)
                    _input_gradient(
                        into,
                        run,
                        run_end,
                        transposed_channels,
                        hidden,
                        wide,
                        nothing,
                        x_out,
                        channels,
                        to_special,
                        found,
                    )
                multiply_add(last[first:], 1, 1, 1, rows, into, hidden, first_total[(inputs + channels) * w :])
