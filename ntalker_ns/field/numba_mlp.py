"""The small networks of the field on the CPU: fused numba kernels behind a torch autograd function.

Importing this module imports numba; import it where a network is first used.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor

from ntalker_ns.encodings.numba_threads import KERNEL_LOCK
from ntalker_ns.field import numba_mlp_kernels as kernels

_LANES = 16
"""Outputs are padded to a multiple of this: one wide vector of float32."""


def run_mlp(
    samples: Float[Tensor, "samples inputs"],
    frame_rows: Float[Tensor, "frames hidden"],
    counts: Sequence[int],
    gates: Float[Tensor, "samples 1"] | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, whose first layer also gets each sample's gate times its frame's row.

    The same numbers as torch's linear layers up to rounding, with gradients to every floating-point argument.

    Args:
        samples: on the CPU, grouped by frame.
        frame_rows: added to the first layer before its ReLU.
        counts: samples of each frame.
        gates: factor on the frame's row for each sample, 1 where None.
        weights: (out, in) of each layer, at least two; hidden layers are all equally wide.
        biases: (out,) of each layer.
    """
    return _RunMLP.apply(samples, frame_rows, gates, tuple(counts), len(weights), *weights, *biases)  # type: ignore[no-any-return]


class _Packed(NamedTuple):
    """A network's parameters as the kernels take them, and its padded widths as tuples that the compiler unrolls."""

    weights: np.ndarray
    biases: np.ndarray
    ins: tuple[int, ...]
    hidden: tuple[int, ...]
    outs: tuple[int, ...]


def _padded(channels: int) -> int:
    return -(-channels // _LANES) * _LANES


def _padded_inputs(channels: int, hidden: int) -> int:
    """As wide as a hidden layer where that is enough: kernels are compiled for each combination of widths."""
    return max(_padded(channels), hidden)


def _pack(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> _Packed:
    """Matrices as (in, out), side by side; the last one padded to whole vectors of outputs."""
    hidden, (outputs, inputs) = weights[0].shape[0], (weights[-1].shape[0], weights[0].shape[1])
    wide = _padded(outputs)
    parts = [weight.detach().t().reshape(-1) for weight in weights[:-1]]
    last = torch.nn.functional.pad(weights[-1].detach().t(), (0, wide - outputs))
    flat_biases = [*(bias.detach() for bias in biases), biases[0].new_zeros(wide - outputs)]
    return _Packed(
        weights=torch.cat([*parts, last.reshape(-1)]).numpy(),
        biases=torch.cat(flat_biases).numpy(),
        ins=(0,) * _padded_inputs(inputs, hidden),
        hidden=(0,) * hidden,
        outs=(0,) * wide,
    )


def _transposed(weights: Sequence[Tensor]) -> np.ndarray:
    """Matrices as (out, in), side by side; inputs of the first and outputs of the last padded to whole vectors."""
    first, last = weights[0].detach(), weights[-1].detach()
    padded_first = torch.nn.functional.pad(first, (0, _padded_inputs(first.shape[1], len(first)) - first.shape[1]))
    padded_last = torch.nn.functional.pad(last, (0, 0, 0, _padded(last.shape[0]) - last.shape[0]))
    inner = [weight.detach().reshape(-1) for weight in weights[1:-1]]
    return torch.cat([padded_first.reshape(-1), *inner, padded_last.reshape(-1)]).numpy()


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
        weights, biases = parameters[:layers], parameters[layers:]
        samples, frame_rows = samples.contiguous(), frame_rows.contiguous()
        factors = samples.new_ones(len(samples)) if gates is None else gates.reshape(-1).contiguous()
        packed = _pack(weights, biases)
        output = samples.new_empty(len(samples), weights[-1].shape[0])
        arrays = _arrays(samples, frame_rows, counts, factors, packed)
        shape = (layers, packed.hidden, packed.outs, get_num_threads())
        with KERNEL_LOCK:
            kernels.forward(*arrays, *shape, output.numpy())  # pyright: ignore[reportCallIssue]
        ctx.save_for_backward(samples, frame_rows, factors, *parameters)
        ctx.counts, ctx.layers, ctx.gated = counts, layers, gates is not None
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        samples, frame_rows, factors, *parameters = ctx.saved_tensors
        weights, biases = parameters[: ctx.layers], parameters[ctx.layers :]
        packed, threads = _pack(weights, biases), get_num_threads()
        to_samples, to_gates = torch.empty_like(samples), torch.empty_like(factors)
        to_rows = samples.new_zeros(threads, *frame_rows.shape)
        to_weights = samples.new_zeros(threads, len(packed.weights))
        to_biases = samples.new_zeros(threads, len(packed.biases))
        arrays = _arrays(samples, frame_rows, ctx.counts, factors, packed)
        shape = (_transposed(weights), ctx.layers, packed.ins, packed.hidden, packed.outs, threads)
        outputs = (gradient.contiguous(), to_samples, to_gates, to_rows, to_weights, to_biases)
        with KERNEL_LOCK:
            kernels.backward(*arrays, *shape, *(output.numpy() for output in outputs))  # pyright: ignore[reportCallIssue]
        return (
            to_samples,
            to_rows.sum(dim=0),
            to_gates[:, None] if ctx.gated else None,
            None,
            None,
            *_unpack_weights(to_weights.sum(dim=0), weights),
            *_unpack_biases(to_biases.sum(dim=0), biases),
        )


def _arrays(
    samples: Tensor, frame_rows: Tensor, counts: tuple[int, ...], factors: Tensor, packed: _Packed
) -> tuple[Any, ...]:
    """The arguments that both kernels begin with."""
    ends = np.cumsum(np.array(counts, np.int64))
    inputs = samples.shape[1]
    return (
        samples.view(-1).numpy(),
        inputs,
        frame_rows.numpy(),
        ends,
        factors.numpy(),
        packed.weights,
        packed.biases,
    )


def _unpack_weights(flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the matrices, as (out, in), from those of `_pack`."""
    shapes = [(weight.shape[1], weight.shape[0]) for weight in weights]
    shapes[-1] = (shapes[-1][0], _padded(shapes[-1][1]))
    parts = flat.split([rows * columns for rows, columns in shapes])
    return [
        part.view(shape)[:, : weight.shape[0]].t() for part, shape, weight in zip(parts, shapes, weights, strict=True)
    ]


def _unpack_biases(flat: Tensor, biases: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the biases from those of `_pack`."""
    sizes = [len(bias) for bias in biases]
    return list(flat[: sum(sizes)].split(sizes))
