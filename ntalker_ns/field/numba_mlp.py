"""The small networks of the field on the CPU: fused numba kernels behind a torch autograd function.

Importing this module imports numba; import it where a network is first used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor

from ntalker_ns.encodings.numba_common import KERNEL_LOCK
from ntalker_ns.field import numba_mlp_kernels as kernels
from ntalker_ns.field.segments import SparseInputs

_LANES = 16
"""Channels in and out are padded to a multiple of this: one wide vector of float32."""
_NARROW = 32
"""Inputs are padded at least to this: kernels are compiled for each combination of widths."""


def run_mlp(
    samples: Float[Tensor, "samples inputs"],
    frame_rows: Float[Tensor, "frames hidden"],
    counts: Sequence[int],
    gates: Float[Tensor, "samples 1"] | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    sparse: SparseInputs | None = None,
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, whose first layer also gets each sample's gate times its frame's row.

    The same numbers as torch's linear layers up to rounding, with gradients to every floating-point argument but
    `sparse.last`.

    Args:
        samples: on the CPU, grouped by frame.
        frame_rows: added to the first layer before its ReLU.
        counts: samples of each frame.
        gates: factor on the frame's row for each sample, 1 where None.
        weights: (out, in) of each layer, at least two; hidden layers are all equally wide.
        biases: (out,) of each layer.
        sparse: further inputs behind those of `samples`.
    """
    further = (None, None, None, None) if sparse is None else (sparse.values, sparse.index, sparse.common, sparse.last)
    return _RunMLP.apply(samples, frame_rows, gates, *further, tuple(counts), len(weights), *weights, *biases)  # type: ignore[no-any-return]


class _RunMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        frame_rows: Tensor,
        gates: Tensor | None,
        special: Tensor | None,
        index: Tensor | None,
        common: Tensor | None,
        last: Tensor | None,
        counts: tuple[int, ...],
        layers: int,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.gated, ctx.sparse = gates is not None, special is not None
        factors = samples.new_ones(len(samples)) if gates is None else gates.reshape(-1).contiguous()
        if special is None or index is None or common is None or last is None:
            special, common, last = samples.new_empty(0, 0), samples.new_empty(0), samples.new_empty(0)
            place = torch.empty(0, dtype=torch.int64)
        else:
            special, common, last = (special - common), common.reshape(-1), last.reshape(-1).contiguous()
            place = torch.full((len(samples),), -1, dtype=torch.int64)
            place[index] = torch.arange(len(index))
        saved = (samples.contiguous(), frame_rows.contiguous(), factors, special, place, common, last, *parameters)
        ctx.save_for_backward(*saved)
        layers_of = parameters[:layers], parameters[layers:]
        ctx.layers, ctx.network = layers, pack(*layers_of, samples.shape[1], common)
        ctx.ends = np.cumsum(np.array(counts, np.int64))
        output = samples.new_empty(len(samples), len(parameters[-1]))
        hidden, outs = (0,) * frame_rows.shape[1], (0,) * padded(output.shape[1])
        with KERNEL_LOCK:
            kernels.forward(*_asked(saved, ctx.ends), ctx.network, hidden, outs, get_num_threads(), output.numpy())  # pyright: ignore[reportCallIssue]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        samples, frame_rows, factors, special, _, common, _, *parameters = ctx.saved_tensors
        weights, biases = parameters[: ctx.layers], parameters[ctx.layers :]
        inputs, channels, width = samples.shape[1], special.shape[1], frame_rows.shape[1]
        wide = max(padded(inputs), padded(channels), _NARROW)
        outs = padded(gradient.shape[1])
        threads = get_num_threads()
        to_samples, to_special, to_gates = (torch.empty_like(each) for each in (samples, special, factors))
        inner = (ctx.layers - 2) * width**2
        sizes = (frame_rows.shape, (weights[0].numel(),), (inner + width * outs,), ((ctx.layers - 1) * width + outs,))
        sums = [samples.new_zeros(threads, *size) for size in sizes]
        arguments = (
            *_asked(ctx.saved_tensors, ctx.ends),
            ctx.network,
            _transposed(weights, inputs, channels, wide, outs),
            *((0,) * size for size in (wide, width, outs)),
            threads,
            gradient.contiguous().numpy(),
            kernels.Gradients(*(each.numpy() for each in (to_samples, to_special, to_gates, *sums))),
        )
        with KERNEL_LOCK:
            kernels.backward(*arguments)  # pyright: ignore[reportCallIssue]
        to_rows, to_first, to_weights, to_biases = (total.sum(dim=0) for total in sums)
        to_first = to_first.view(-1, width).t()
        to_common = None
        if ctx.sparse:
            # All samples began with the bias and the common values, and some got their difference from these.
            further = slice(inputs, inputs + channels)
            to_first[:, further] += torch.outer(to_biases[:width], common)
            to_common = (to_biases[:width] @ weights[0][:, further] - to_special.sum(dim=0))[None]
        return (
            to_samples,
            to_rows,
            to_gates[:, None] if ctx.gated else None,
            *((to_special, None, to_common, None) if ctx.sparse else (None,) * 4),
            None,
            None,
            to_first,
            *_unpack_weights(to_weights, weights[1:]),
            *to_biases[: sum(len(bias) for bias in biases)].split([len(bias) for bias in biases]),
        )


def padded(channels: int) -> int:
    """As many channels as whole vectors hold."""
    return -(-channels // _LANES) * _LANES


def pack(weights: Sequence[Tensor], biases: Sequence[Tensor], inputs: int, common: Tensor) -> kernels.Network:
    """A network's parameters as the kernels take them.

    Args:
        weights: (out, in) of each layer.
        biases: (out,) of each layer.
        inputs: channels of the samples, before those that `common` has.
        common: (channels,) values that most samples share.
    """
    first, *others = (weight.detach() for weight in weights)
    biases = [bias.detach() for bias in biases]
    padding = padded(len(biases[-1])) - len(biases[-1])
    others[-1] = torch.nn.functional.pad(others[-1], (0, 0, 0, padding))
    return kernels.Network(
        start=(biases[0] + first[:, inputs : inputs + len(common)] @ common).numpy(),
        first_weights=first.t().reshape(-1).numpy(),
        weights=torch.cat([weight.t().reshape(-1) for weight in others]).numpy(),
        biases=torch.cat([*biases, biases[0].new_zeros(padding)]).numpy(),
        layers=len(weights),
    )


def _asked(saved: Sequence[Tensor], ends: np.ndarray) -> tuple[kernels.Samples, kernels.Frames]:
    """What both kernels begin with; `ends` says where each frame's samples end."""
    samples, frame_rows, factors, special, place, _, last, *_ = (each.detach() for each in saved)
    further = (special.view(-1).numpy(), special.shape[1], place.numpy(), last.numpy())
    asked = kernels.Samples(samples.view(-1).numpy(), samples.shape[1], *further)
    return asked, kernels.Frames(frame_rows.numpy(), ends, factors.numpy())


def _transposed(weights: Sequence[Tensor], inputs: int, channels: int, wide: int, outs: int) -> kernels.Transposed:
    """Matrices as (out, in); the first one's inputs are padded to `wide`, the outputs of the last one to `outs`."""
    pad = torch.nn.functional.pad
    first, *others = (weight.detach() for weight in weights)
    others[-1] = pad(others[-1], (0, 0, 0, outs - len(others[-1])))
    parts = (first[:, :inputs], first[:, inputs : inputs + channels])
    narrow = [pad(part, (0, wide - part.shape[1])).reshape(-1) for part in parts]
    others = torch.cat([weight.reshape(-1) for weight in others])
    return kernels.Transposed(*(part.numpy() for part in (*narrow, others)))


def _unpack_weights(flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of matrices, as (out, in), from matrices side by side as (in, out), outputs padded."""
    shapes = [(weight.shape[1], padded(len(weight)) if weight is weights[-1] else len(weight)) for weight in weights]
    parts = flat.split([rows * columns for rows, columns in shapes])
    return [part.view(shape)[:, : len(weight)].t() for part, shape, weight in zip(parts, shapes, weights, strict=True)]
