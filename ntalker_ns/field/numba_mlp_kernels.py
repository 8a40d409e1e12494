"""Numba kernels of a small ReLU network on many samples: all layers of a tile of samples in one go.

One layer after the other over all samples, a network of 64 channels spends its time moving activations to memory and
back. Here a thread takes a tile of samples through all layers while its activations stay in the first-level cache; the
backward pass computes them again instead of having stored them.

The product of a tile and a weight matrix (`_multiply_add`) is written so that the compiler vectorises over output
channels: their number is the length of a tuple, which it knows, and sixteen products are done for each four rows it
loads.

Arguments shared by the kernels:
    x: (N * inputs,) samples, row after row; inputs: their channels.
    frame_rows: (frames, hidden) what each frame adds to the first layer.
    ends: (frames,) where each frame's samples end.
    gates: (N,) each sample's factor on its frame's row.
    weights: all matrices as (channels in, channels out), row after row, one matrix after the other.
    biases: likewise.
    layers: linear layers, at least 2.
    hidden, outs: tuples as long as a hidden layer and the padded output layer are wide.
    y: (N, outputs) where outputs may be fewer than the padded output's channels.
"""

import numpy as np
from numba import njit, prange

TILE = 64
"""Samples that go through the network together."""

FASTMATH = {"contract", "reassoc", "nsz"}


@njit(fastmath=FASTMATH)
def _multiply_add(a, row_stride, column_stride, rows, depth, b, width, c):
    """c += a b, for a of (rows, depth) with any strides, b of (depth, width) and c of (rows, width) without gaps."""
    w = len(width)
    whole_rows, whole_depth = rows - rows % 4, depth - depth % 4
    for t in range(0, whole_rows, 4):
        r = t * w
        for k in range(0, whole_depth, 4):
            p, q = t * row_stride + k * column_stride, k * w
            a00, a01 = a[p], a[p + column_stride]
            a02, a03 = a[p + 2 * column_stride], a[p + 3 * column_stride]
            p += row_stride
            a10, a11 = a[p], a[p + column_stride]
            a12, a13 = a[p + 2 * column_stride], a[p + 3 * column_stride]
            p += row_stride
            a20, a21 = a[p], a[p + column_stride]
            a22, a23 = a[p + 2 * column_stride], a[p + 3 * column_stride]
            p += row_stride
            a30, a31 = a[p], a[p + column_stride]
            a32, a33 = a[p + 2 * column_stride], a[p + 3 * column_stride]
            for j in range(w):
                b0, b1, b2, b3 = b[q + j], b[q + w + j], b[q + 2 * w + j], b[q + 3 * w + j]
                c[r + j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
                c[r + w + j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
                c[r + 2 * w + j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
                c[r + 3 * w + j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
        for k in range(whole_depth, depth):
            p, q = t * row_stride + k * column_stride, k * w
            a00, a10 = a[p], a[p + row_stride]
            a20, a30 = a[p + 2 * row_stride], a[p + 3 * row_stride]
            for j in range(w):
                b0 = b[q + j]
                c[r + j] += a00 * b0
                c[r + w + j] += a10 * b0
                c[r + 2 * w + j] += a20 * b0
                c[r + 3 * w + j] += a30 * b0
    for t in range(whole_rows, rows):
        for k in range(depth):
            p, q, r = t * row_stride + k * column_stride, k * w, t * w
            a00 = a[p]
            for j in range(w):
                c[r + j] += a00 * b[q + j]


@njit(fastmath=FASTMATH)
def _start(rows, bias, width, c):
    """Writes a layer's bias into every row."""
    w = len(width)
    for t in range(rows):
        for j in range(w):
            c[t * w + j] = bias[j]


@njit(fastmath=FASTMATH)
def _start_first(first, rows, bias, frame_rows, ends, gates, frame, width, c):
    """Writes the first layer's bias and each sample's part of its frame's row; returns the last sample's frame."""
    w = len(width)
    for t in range(rows):
        while first + t >= ends[frame]:
            frame += 1
        gate, row = gates[first + t], frame_rows[frame]
        for j in range(w):
            c[t * w + j] = bias[j] + gate * row[j]
    return frame


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
def _hidden_layers(
    x, inputs, first, rows, frame_rows, ends, gates, frame, weights, biases, layers, hidden, activations
):
    """Writes the activations of all hidden layers of a tile; returns the frame of its last sample."""
    w = len(hidden)
    tile = x[first * inputs : (first + rows) * inputs]
    frame = _start_first(first, rows, biases[:w], frame_rows, ends, gates, frame, hidden, activations[0])
    _multiply_add(tile, inputs, 1, rows, inputs, weights[: inputs * w], hidden, activations[0])
    _rectify(rows * w, activations[0])
    for layer in range(1, layers - 1):
        begin = inputs * w + (layer - 1) * w * w
        _start(rows, biases[layer * w : (layer + 1) * w], hidden, activations[layer])
        matrix = weights[begin : begin + w * w]
        _multiply_add(activations[layer - 1], w, 1, rows, w, matrix, hidden, activations[layer])
        _rectify(rows * w, activations[layer])
    return frame


@njit(inline="always")
def _share(tiles, threads, thread):
    """The tiles of a thread: as many for each, side by side."""
    return tiles * thread // threads, tiles * (thread + 1) // threads


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def forward(x, inputs, frame_rows, ends, gates, weights, biases, layers, hidden, outs, threads, y):
    """Writes the network's outputs of all samples into `y`."""
    w, o, outputs = len(hidden), len(outs), y.shape[1]
    tiles = (y.shape[0] + TILE - 1) // TILE
    last = weights[inputs * w + (layers - 2) * w * w :]
    for thread in prange(threads):
        activations = np.empty((layers - 1, TILE * w), x.dtype)
        out = np.empty(TILE * o, x.dtype)
        frame = 0
        begin, end = _share(tiles, threads, thread)
        for tile in range(begin, end):
            first = tile * TILE
            rows = min(TILE, y.shape[0] - first)
            frame = _hidden_layers(
                x, inputs, first, rows, frame_rows, ends, gates, frame, weights, biases, layers, hidden, activations
            )
            _start(rows, biases[(layers - 1) * w :], outs, out)
            _multiply_add(activations[layers - 2], w, 1, rows, w, last, outs, out)
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


@njit(parallel=True, fastmath=FASTMATH, cache=True)
def backward(
    x,
    inputs,
    frame_rows,
    ends,
    gates,
    weights,
    biases,
    transposed,
    layers,
    ins,
    hidden,
    outs,
    threads,
    y_gradient,
    x_gradient,
    gates_gradient,
    rows_gradients,
    weights_gradients,
    biases_gradients,
):
    """The gradients of everything, from `y_gradient` (N, outputs).

    `transposed` holds the matrices as (channels out, channels in), their channels padded to the lengths of ins,
    hidden and outs. The last three are sums, one for each thread: (threads, ...).
    """
    i, w, o, outputs = len(ins), len(hidden), len(outs), y_gradient.shape[1]
    tiles = (y_gradient.shape[0] + TILE - 1) // TILE
    for thread in prange(threads):
        activations = np.empty((layers - 1, TILE * w), x.dtype)
        out = np.zeros(TILE * o, x.dtype)
        into, inner = np.empty(TILE * w, x.dtype), np.empty(TILE * w, x.dtype)
        x_out = np.empty(TILE * i, x.dtype)
        rows_total, total = rows_gradients[thread], weights_gradients[thread]
        bias_total = biases_gradients[thread]
        before, frame = 0, 0
        begin, end = _share(tiles, threads, thread)
        for tile in range(begin, end):
            first = tile * TILE
            rows = min(TILE, y_gradient.shape[0] - first)
            before = frame
            frame = _hidden_layers(
                x, inputs, first, rows, frame_rows, ends, gates, frame, weights, biases, layers, hidden, activations
            )
            for t in range(rows):
                for j in range(outputs):
                    out[t * o + j] = y_gradient[first + t, j]
            place = inputs * w + (layers - 2) * w * w
            _multiply_add(activations[layers - 2], 1, w, w, rows, out, outs, total[place : place + w * o])
            _add_rows(rows, out, outs, bias_total[(layers - 1) * w :])
            place = i * w + (layers - 2) * w * w
            into[:] = 0
            _multiply_add(out, o, 1, rows, o, transposed[place : place + o * w], hidden, into)
            _block(rows * w, activations[layers - 2], into)
            for layer in range(layers - 2, 0, -1):
                place = inputs * w + (layer - 1) * w * w
                _multiply_add(activations[layer - 1], 1, w, w, rows, into, hidden, total[place : place + w * w])
                _add_rows(rows, into, hidden, bias_total[layer * w : (layer + 1) * w])
                place = i * w + (layer - 1) * w * w
                inner[:] = 0
                _multiply_add(into, w, 1, rows, w, transposed[place : place + w * w], hidden, inner)
                _block(rows * w, activations[layer - 1], inner)
                into, inner = inner, into
            tile_x = x[first * inputs : (first + rows) * inputs]
            _multiply_add(tile_x, 1, inputs, inputs, rows, into, hidden, total[: inputs * w])
            _add_rows(rows, into, hidden, bias_total[:w])
            _frame_gradients(first, rows, into, frame_rows, ends, gates, before, hidden, rows_total, gates_gradient)
            x_out[:] = 0
            _multiply_add(into, w, 1, rows, w, transposed[: w * i], ins, x_out)
            for t in range(rows):
                for k in range(inputs):
                    x_gradient[first + t, k] = x_out[t * i + k]
