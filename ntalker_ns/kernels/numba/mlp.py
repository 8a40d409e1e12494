"""The small networks of the field on the CPU: all layers in one kernel."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor

from ntalker_ns.kernels.numba import mlp_kernels as kernels
from ntalker_ns.kernels.numba.common import KERNEL_LOCK
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs
from ntalker_ns.kernels.reference.mlp import all_columns, frame_rows
from ntalker_ns.kernels.types import MlpWeights

_LANES = 16
"""Channels in and out are padded to a multiple of this: one wide vector of float32."""
_NARROWEST = 32
"""Inputs are padded at least to this: kernels are compiled for each combination of widths."""


def accepts_run_mlp(samples: Tensor, *_: Any, **__: Any) -> bool:
    """At least one sample, in full precision."""
    return len(samples) > 0 and not torch.is_autocast_enabled("cpu")


def run_mlp(
    samples: Float[Tensor, "samples channels"],
    network: MlpWeights,
    frames: Float[Tensor, "frames frame_channels"] | None,
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None = None,
    sparse: SparseInputs | None = None,
    shared: RayInputs | None = None,
) -> Float[Tensor, "samples outputs"]:
    """See `kernels.reference.mlp.run_mlp`."""
    rows = frame_rows(network, frames)
    if rows is None:
        rows, counts = samples.new_zeros(1, len(network.weights[0])), [len(samples)]
    return run_layers(all_columns(samples, sparse, shared), rows, counts, gates, network.weights, network.biases)


def run_layers(
    samples: Float[Tensor, "samples inputs"],
    rows: Float[Tensor, "frames hidden"],
    counts: Sequence[int],
    gates: Float[Tensor, "samples 1"] | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, whose first layer also adds each sample's gate times its frame's row.

    The same numbers as torch's linear layers up to rounding, with gradients to every floating-point argument.

    Args:
        samples: on the CPU, grouped by frame.
        rows: added to the first layer before its ReLU.
        counts: samples of each frame.
        gates: factor on the frame's row for each sample, 1 where None.
        weights: (out, in) of each layer, at least two; hidden layers are all equally wide.
        biases: (out,) of each layer.
    """
    return _RunMLP.apply(samples, rows, gates, tuple(counts), len(weights), *weights, *biases)  # type: ignore[no-any-return]


class _RunMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        frame_rows: Tensor,
        gates: Tensor | None,
        counts: tuple[int, ...],
        layers: int,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.gated, kind = gates is not None, _kind(samples)
        factors = np.ones(len(samples), kind) if gates is None else _array(gates).reshape(-1)
        inputs, empty = samples.shape[1], np.empty(0, kind)
        arrays = [_array(each) for each in parameters]
        weights, biases = arrays[:layers], arrays[layers:]
        ctx.inputs = (
            kernels.Samples(_array(samples).reshape(-1), inputs, empty, 0, np.empty(0, np.int64), empty),
            kernels.Frames(_array(frame_rows), np.cumsum(counts, dtype=np.int64), factors),
        )
        ctx.layers, ctx.network = layers, pack(weights, biases, inputs, empty)
        # The kernels read the arrays above; saving their tensors lets torch detect writes in between.
        ctx.save_for_backward(samples, frame_rows, gates, *parameters)
        output = samples.new_empty(len(samples), len(biases[-1]))
        hidden, outs = (0,) * frame_rows.shape[1], (0,) * padded(output.shape[1])
        with KERNEL_LOCK:
            kernels.forward(*ctx.inputs, ctx.network, hidden, outs, get_num_threads(), output.numpy())  # pyright: ignore[reportCallIssue]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        samples, frame_rows, _, *parameters = ctx.saved_tensors
        arrays = [_array(each) for each in parameters]
        weights, biases = arrays[: ctx.layers], arrays[ctx.layers :]
        inputs, width = samples.shape[1], frame_rows.shape[1]
        wide, outs = max(padded(inputs), _NARROWEST), padded(gradient.shape[1])
        threads, empty = get_num_threads(), np.empty(0, _kind(samples))
        to_samples = torch.empty_like(samples, memory_format=torch.contiguous_format)
        to_gates = np.empty(len(samples), empty.dtype)
        sums = no_sums(weights, len(frame_rows), outs, threads)
        arguments = (
            *ctx.inputs,
            ctx.network,
            transposed(weights, inputs, 0, wide, outs),
            *((0,) * size for size in (wide, width, outs)),
            threads,
            _array(gradient),
            kernels.Gradients(to_samples.numpy(), np.empty((0, 0), empty.dtype), to_gates, *sums),
        )
        with KERNEL_LOCK:
            kernels.backward(*arguments)  # pyright: ignore[reportCallIssue]
        found = parameter_gradients(sums, weights, biases, inputs, empty)
        return (
            to_samples,
            torch.from_numpy(found.rows),
            torch.from_numpy(to_gates)[:, None] if ctx.gated else None,
            None,
            None,
            *(torch.from_numpy(each) for each in (*found.weights, *found.biases)),
        )


class Sums(NamedTuple):
    """Sums of gradients, (threads, ...) each, see `kernels.Gradients`."""

    rows: np.ndarray
    first_weights: np.ndarray
    weights: np.ndarray
    biases: np.ndarray


def no_sums(weights: Sequence[np.ndarray], frames: int, outs: int, threads: int) -> Sums:
    """Zeros, to which gradients are added.

    Args:
        weights: (out, in) of each layer.
        frames: how many.
        outs: outputs, padded.
        threads: how many.
    """
    first = weights[0]
    width, layers = len(first), len(weights)
    inner = (layers - 2) * width**2
    sizes = ((frames, width), (first.size,), (inner + width * outs,), ((layers - 1) * width + outs,))
    return Sums(*(np.zeros((threads, *size), first.dtype) for size in sizes))


class ParameterGradients(NamedTuple):
    """Gradients of everything that does not belong to one sample."""

    rows: np.ndarray
    """(frames, hidden) of what frames add to the first layer."""
    common: np.ndarray
    """(channels,) of the values that most samples share, had all samples begun with them."""
    weights: list[np.ndarray]
    """(out, in) of each layer."""
    biases: list[np.ndarray]


def parameter_gradients(
    sums: Sums, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], inputs: int, common: np.ndarray
) -> ParameterGradients:
    """Gradients from the kernels' sums.

    Args:
        sums: of the kernels.
        weights: (out, in) of each layer.
        biases: (out,) of each layer.
        inputs: channels of the samples, before those that `common` has.
        common: (channels,) values that most samples share.
    """
    to_rows, to_first, to_weights, to_biases = (total.sum(axis=0) for total in sums)
    to_first = to_first.reshape(-1, to_rows.shape[1]).T
    of_bias = to_biases[: len(to_first)]
    further = slice(inputs, inputs + len(common))
    # All samples began with the bias and the common values, which are a part of it.
    to_first[:, further] += np.outer(of_bias, common)
    to_others = list(_unpack_weights(to_weights, weights[1:]))
    return ParameterGradients(
        to_rows, of_bias @ weights[0][:, further], [to_first, *to_others], list(_unpack_biases(to_biases, biases))
    )


def _kind(tensor: Tensor) -> Any:
    """numpy's type of a tensor."""
    return np.float64 if tensor.dtype == torch.float64 else np.float32


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's values, contiguous."""
    return tensor.detach().contiguous().numpy()


def padded(channels: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // _LANES) * _LANES


def pack(
    weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], inputs: int, common: np.ndarray
) -> kernels.Network:
    """A network's parameters as kernels take them.

    Args:
        weights: (out, in) of each layer.
        biases: (out,) of each layer.
        inputs: channels of the samples, before those that `common` has.
        common: (channels,) values that most samples share.
    """
    first, *others = weights
    padding = np.zeros(padded(len(biases[-1])) - len(biases[-1]), biases[-1].dtype)
    matrices = [weight.T for weight in others[:-1]]
    matrices.append(_with_columns(others[-1].T, padded(len(biases[-1]))))
    start = biases[0]
    if len(common):
        start = start + first[:, inputs : inputs + len(common)] @ common
    return kernels.Network(
        start=start,
        first_weights=first.T.reshape(-1),
        weights=np.concatenate([matrix.reshape(-1) for matrix in matrices]),
        biases=np.concatenate([*biases, padding]),
        layers=len(weights),
    )


def _with_columns(matrix: np.ndarray, columns: int) -> np.ndarray:
    """A matrix padded with zero columns."""
    wider = np.zeros((len(matrix), columns), matrix.dtype)
    wider[:, : matrix.shape[1]] = matrix
    return wider


def transposed(weights: Sequence[np.ndarray], inputs: int, channels: int, wide: int, outs: int) -> kernels.Transposed:
    """A network's matrices as the backward kernels take them.

    Args:
        weights: (out, in) of each layer.
        inputs: channels of the samples.
        channels: of `SparseInputs`.
        wide: the first layer's inputs, padded.
        outs: outputs, padded.
    """
    first, *others = weights
    parts = (first[:, :inputs], first[:, inputs : inputs + channels])
    of_x, of_channels = (_with_columns(part, wide).reshape(-1) for part in parts)
    padding = np.zeros((outs - len(others[-1])) * others[-1].shape[1], first.dtype)
    flat = np.concatenate([*(weight.reshape(-1) for weight in others), padding])
    return kernels.Transposed(of_x, of_channels, flat)


def _unpack_weights(flat: np.ndarray, weights: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Gradients of matrices, as (out, in), from matrices side by side as (in, out), outputs padded."""
    begin = 0
    for weight in weights:
        rows, columns = weight.shape[1], padded(len(weight)) if weight is weights[-1] else len(weight)
        yield flat[begin : begin + rows * columns].reshape(rows, columns)[:, : len(weight)].T
        begin += rows * columns


def _unpack_biases(flat: np.ndarray, biases: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Gradients of biases, side by side."""
    begin = 0
    for bias in biases:
        yield flat[begin : begin + len(bias)]
        begin += len(bias)
