"""The small networks of the field on CUDA: all layers in one kernel.

Hidden activations never leave the chip: the forward pass stores none of them, and the backward pass computes them
again from the samples, which is cheaper than bringing them back. Each program of the backward pass goes through many
tiles of samples and keeps its share of the parameters' gradients in registers until the end."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, ends_on
from ntalker_ns.kernels.reference.mlp import frame_rows
from ntalker_ns.kernels.triton.sizes import SMALLEST, fits
from ntalker_ns.kernels.types import MlpWeights

FORWARD_TILE, BACKWARD_TILE = 128, 64
"""Samples of a tile."""
TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def accepts_run_mlp(samples: Tensor, network: MlpWeights, *_: Any, **__: Any) -> bool:
    """At least one sample, under autocast, and a network that `fits`: float32 is multiplied without the device's matrix
    units, where torch does better."""
    device = samples.device
    return len(samples) > 0 and torch.is_autocast_enabled(device.type) and fits(network.weights, device)


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
    return run_layers(samples, rows, counts, gates, network.weights, network.biases, sparse, shared)


def run_layers(
    samples: Float[Tensor, "samples inputs"],
    rows: Float[Tensor, "frames hidden"],
    counts: Sequence[int],
    gates: Float[Tensor, "samples 1"] | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    sparse: SparseInputs | None = None,
    shared: RayInputs | None = None,
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, whose first layer also adds each sample's gate times its frame's row.

    The same numbers as torch's linear layers up to rounding, with gradients to every floating-point argument but
    `sparse.last` and `shared`. Under autocast matrices are multiplied in its type and summed in float32; otherwise in
    the type of the samples, where float32 follows `torch.backends.cuda.matmul.allow_tf32`.

    Args:
        samples: on a CUDA device, grouped by frame.
        rows: added to the first layer before its ReLU.
        counts: samples of each frame.
        gates: factor on the frame's row for each sample, 1 where None.
        weights: (out, in) of each layer; see `fits`.
        biases: (out,) of each layer.
        sparse: further inputs behind those of `samples`.
        shared: further inputs before those of `samples`.

    Returns:
        Outputs in the type of the products.

    Raises:
        ValueError: the network is not one that `fits`.
    """
    if not fits(weights, samples.device):
        raise ValueError(f"No fused kernel for layers of {[tuple(weight.shape) for weight in weights]}.")
    device = samples.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else samples.dtype
    ends = ends_on(counts, samples.device)
    extra = None
    if sparse is not None:
        samples, extra = torch.cat([samples, sparse.without_last()], dim=-1), sparse.last
    per_ray = (None, None) if shared is None else shared
    rest = (extra, *per_ray, ends, kind, len(weights))
    return _RunMLP.apply(samples, rows, gates, *rest, *weights, *biases)  # type: ignore[no-any-return]


class _RunMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        frame_rows: Tensor,
        gates: Tensor | None,
        extra: Tensor | None,
        per_ray: Tensor | None,
        rays: Tensor | None,
        ends: Tensor,
        kind: torch.dtype,
        layers: int,
        *parameters: Tensor,
    ) -> Tensor:
        samples, frame_rows = samples.contiguous(), frame_rows.contiguous()
        given = (gates, extra, per_ray, rays)
        gates, extra, per_ray, rays = (None if each is None else each.contiguous() for each in given)
        parameters = tuple(parameter.contiguous() for parameter in parameters)
        output = samples.new_empty(len(samples), len(parameters[-1]), dtype=kind)
        if len(samples):
            with torch.cuda.device_of(samples):
                mlp_forward[(triton.cdiv(len(samples), FORWARD_TILE),)](
                    *_arguments(samples, frame_rows, gates, extra, per_ray, rays, ends, parameters),
                    output,
                    **_constants(samples, per_ray, parameters, kind),
                    GATED=gates is not None,
                    EXTRA=extra is not None,
                    TILE=FORWARD_TILE,
                    num_warps=4,
                    enable_fp_fusion=True,
                )
        ctx.save_for_backward(samples, frame_rows, gates, extra, per_ray, rays, ends, *parameters)
        ctx.kind = kind
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        samples, frame_rows, gates, extra, per_ray, rays, ends, *parameters = ctx.saved_tensors
        programs = min(max(triton.cdiv(len(samples), BACKWARD_TILE), 1), _programs(samples.device))
        to_samples = torch.empty_like(samples)
        to_gates = None if gates is None else torch.empty_like(gates)
        sizes = [each.numel() for each in (*parameters, frame_rows)]
        shares = samples.new_zeros(programs, sum(sizes), dtype=torch.float32)
        if len(samples):
            with torch.cuda.device_of(samples):
                mlp_backward[(programs,)](
                    *_arguments(samples, frame_rows, gates, extra, per_ray, rays, ends, parameters),
                    gradient.contiguous(),
                    to_samples,
                    # Without gates the kernel does not write their gradient; it is given something to point to.
                    to_samples if to_gates is None else to_gates,
                    shares,
                    shares.shape[1],
                    **_constants(samples, per_ray, parameters, ctx.kind),
                    GATED=gates is not None,
                    EXTRA=extra is not None,
                    TILE=BACKWARD_TILE,
                    num_warps=8,
                    enable_fp_fusion=True,
                )
        flat = zip(shares.sum(dim=0).split(sizes), (*parameters, frame_rows), strict=True)
        *to_parameters, to_rows = (part.view(each.shape).to(each.dtype) for part, each in flat)
        return to_samples, to_rows, to_gates, *(None,) * 6, *to_parameters


def _programs(device: torch.device) -> int:
    """Programs that the device runs at once: two on each multiprocessor."""
    if device.type != "cuda":  # in Triton's interpreter
        return 2
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count


def _arguments(
    samples: Tensor,
    frame_rows: Tensor,
    gates: Tensor | None,
    extra: Tensor | None,
    per_ray: Tensor | None,
    rays: Tensor | None,
    ends: Tensor,
    parameters: Sequence[Tensor],
) -> tuple[Any, ...]:
    """The first arguments of both kernels. Pointers to parts that a network lacks (an inner layer, gates, sparse or
    shared inputs) are not read."""
    weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    return (
        samples,
        frame_rows,
        samples if gates is None else gates,
        samples if extra is None else extra,
        samples if per_ray is None else per_ray,
        samples if rays is None else rays,
        ends,
        weights[0],
        biases[0],
        weights[1],
        biases[1],
        weights[-1],
        biases[-1],
        len(samples),
        len(frame_rows),
    )


def _constants(
    samples: Tensor, per_ray: Tensor | None, parameters: Sequence[Tensor], kind: torch.dtype
) -> dict[str, Any]:
    weights = parameters[: len(parameters) // 2]
    shared = 0 if per_ray is None else per_ray.shape[1]
    inputs, (hidden, columns), outputs = samples.shape[1] + shared, weights[0].shape, len(weights[-1])
    return {
        "SHARED": shared,
        "INPUTS": inputs,
        "COLUMNS": columns,
        "HIDDEN": hidden,
        "OUTPUTS": outputs,
        "PADDED_IN": max(triton.next_power_of_2(inputs), SMALLEST),
        "PADDED_OUT": max(triton.next_power_of_2(outputs), SMALLEST),
        "INNER": len(weights) == 3,
        "KIND": TYPES[kind],
        "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
    }


@triton.jit
def _matrix(
    matrix, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STRIDE: tl.constexpr, SHAPE0: tl.constexpr, SHAPE1: tl.constexpr
):
    """A (ROWS, COLUMNS) part of a matrix as a tile of (SHAPE0, SHAPE1), zero beyond its edges.

    STRIDE is how far rows are apart.
    """
    row, column = tl.arange(0, SHAPE0)[:, None], tl.arange(0, SHAPE1)[None, :]
    return tl.load(matrix + row * STRIDE + column, mask=(row < ROWS) & (column < COLUMNS), other=0)


@triton.jit
def _inputs(
    samples, per_ray, rays, place, there, column, INPUTS: tl.constexpr, SHARED: tl.constexpr, KIND: tl.constexpr
):
    """A tile of inputs: first those of the samples' rays, then the samples' own."""
    own = samples + place.to(tl.int64) * (INPUTS - SHARED) + (column - SHARED)
    inputs = tl.load(own, mask=there & (column >= SHARED) & (column < INPUTS), other=0).to(KIND)
    if SHARED:
        ray = tl.load(rays + place, mask=there, other=0)
        inputs += tl.load(per_ray + ray * SHARED + column, mask=there & (column < SHARED), other=0).to(KIND)
    return inputs


@triton.jit
def _relu(x):
    """Not the maximum with 0: NaN must reach the output."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def _first_layer(
    inputs,
    frame_rows,
    gates,
    extra,
    ends,
    weight,
    extra_weight,
    bias,
    place,
    there,
    num_frames,
    COLUMNS: tl.constexpr,
    HIDDEN: tl.constexpr,
    GATED: tl.constexpr,
    EXTRA: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The first layer's activations, and of each sample the frame, its row, its gate and its extra input.

    The latter is no column of the tile: one more than a power of two would pad it to the next. `extra_weight` is its
    column of the matrix.
    """
    frame = tl.zeros_like(place)
    for each in range(0, num_frames - 1):
        frame += (place >= tl.load(ends + each)).to(tl.int32)
    channel = tl.arange(0, HIDDEN)[None, :]
    row = tl.load(frame_rows + frame * HIDDEN + channel, mask=there, other=0).to(tl.float32)
    gate = tl.full(place.shape, 1.0, tl.float32)
    if GATED:
        gate = tl.load(gates + place, mask=there, other=0).to(tl.float32)
    hidden = tl.dot(inputs, tl.trans(weight), input_precision=PRECISION)
    hidden += tl.load(bias + channel).to(tl.float32) + gate * row
    more = tl.zeros_like(gate)
    if EXTRA:
        more = tl.load(extra + place, mask=there, other=0).to(tl.float32)
        hidden += more * tl.load(extra_weight + channel * COLUMNS).to(tl.float32)
    return _relu(hidden).to(KIND), frame, row, gate, more


@triton.jit
def _inner_layer(hidden, weight, bias, HIDDEN: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """The activations of a layer between hidden channels."""
    result = tl.dot(hidden, tl.trans(weight), input_precision=PRECISION)
    result += tl.load(bias + tl.arange(0, HIDDEN)[None, :]).to(tl.float32)
    return _relu(result).to(KIND)


@triton.jit(do_not_specialize=["num_samples", "num_frames"])
def mlp_forward(
    samples,
    frame_rows,
    gates,
    extra,
    per_ray,
    rays,
    ends,
    first_weight,
    first_bias,
    inner_weight,
    inner_bias,
    last_weight,
    last_bias,
    num_samples,
    num_frames,
    output,
    SHARED: tl.constexpr,
    INPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PADDED_IN: tl.constexpr,
    PADDED_OUT: tl.constexpr,
    INNER: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    GATED: tl.constexpr,
    EXTRA: tl.constexpr,
    TILE: tl.constexpr,
):
    """Writes the network's outputs of one tile of samples."""
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)[:, None]
    there = place < num_samples
    column = tl.arange(0, PADDED_IN)[None, :]
    wide = place.to(tl.int64)
    inputs = _inputs(samples, per_ray, rays, place, there, column, INPUTS, SHARED, KIND)
    weight = _matrix(first_weight, HIDDEN, INPUTS, COLUMNS, HIDDEN, PADDED_IN).to(KIND)
    hidden, _, _, _, _ = _first_layer(
        inputs,
        frame_rows,
        gates,
        extra,
        ends,
        weight,
        first_weight + INPUTS,
        first_bias,
        place,
        there,
        num_frames,
        COLUMNS,
        HIDDEN,
        GATED,
        EXTRA,
        KIND,
        PRECISION,
    )
    if INNER:
        weight = _matrix(inner_weight, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN).to(KIND)
        hidden = _inner_layer(hidden, weight, inner_bias, HIDDEN, KIND, PRECISION)
    weight = _matrix(last_weight, OUTPUTS, HIDDEN, HIDDEN, PADDED_OUT, HIDDEN).to(KIND)
    result = tl.dot(hidden, tl.trans(weight), input_precision=PRECISION)
    channel = tl.arange(0, PADDED_OUT)[None, :]
    result += tl.load(last_bias + channel, mask=channel < OUTPUTS, other=0).to(tl.float32)
    tl.store(output + wide * OUTPUTS + channel, result.to(KIND), mask=there & (channel < OUTPUTS))


@triton.jit(do_not_specialize=["num_samples", "num_frames"])
def mlp_backward(
    samples,
    frame_rows,
    gates,
    extra,
    per_ray,
    rays,
    ends,
    first_weight,
    first_bias,
    inner_weight,
    inner_bias,
    last_weight,
    last_bias,
    num_samples,
    num_frames,
    gradient,
    to_samples,
    to_gates,
    shares,
    num_shares,
    SHARED: tl.constexpr,
    INPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PADDED_IN: tl.constexpr,
    PADDED_OUT: tl.constexpr,
    INNER: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    GATED: tl.constexpr,
    EXTRA: tl.constexpr,
    TILE: tl.constexpr,
):
    """Writes the gradients of samples and gates, and into this program's row of `shares` its part of those of the
    parameters (weights and then biases, layer by layer), followed by those of the frames' rows."""
    program = tl.program_id(0)
    place_of_shares = shares + program.to(tl.int64) * num_shares
    to_rows = place_of_shares + num_shares - num_frames * HIDDEN
    first = _matrix(first_weight, HIDDEN, INPUTS, COLUMNS, HIDDEN, PADDED_IN).to(KIND)
    last = _matrix(last_weight, OUTPUTS, HIDDEN, HIDDEN, PADDED_OUT, HIDDEN).to(KIND)
    inner = _matrix(inner_weight, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN).to(KIND) if INNER else last
    to_first = tl.zeros([HIDDEN, PADDED_IN], tl.float32)
    to_inner = tl.zeros([HIDDEN, HIDDEN], tl.float32)
    to_last = tl.zeros([PADDED_OUT, HIDDEN], tl.float32)
    to_extra = tl.zeros([HIDDEN], tl.float32)
    to_first_bias = tl.zeros([HIDDEN], tl.float32)
    to_inner_bias = tl.zeros([HIDDEN], tl.float32)
    to_last_bias = tl.zeros([PADDED_OUT], tl.float32)
    column, channel = tl.arange(0, PADDED_IN)[None, :], tl.arange(0, PADDED_OUT)[None, :]
    hidden_channel = tl.arange(0, HIDDEN)
    for tile in range(program, tl.cdiv(num_samples, TILE), tl.num_programs(0)):
        place = tile * TILE + tl.arange(0, TILE)[:, None]
        there = place < num_samples
        wide = place.to(tl.int64)
        inputs = _inputs(samples, per_ray, rays, place, there, column, INPUTS, SHARED, KIND)
        before, frame, row, gate, more = _first_layer(
            inputs,
            frame_rows,
            gates,
            extra,
            ends,
            first,
            first_weight + INPUTS,
            first_bias,
            place,
            there,
            num_frames,
            COLUMNS,
            HIDDEN,
            GATED,
            EXTRA,
            KIND,
            PRECISION,
        )
        hidden = before
        if INNER:
            hidden = _inner_layer(before, inner, inner_bias, HIDDEN, KIND, PRECISION)
        output_mask = there & (channel < OUTPUTS)
        incoming = tl.load(gradient + wide * OUTPUTS + channel, mask=output_mask, other=0)
        to_last_bias += tl.sum(incoming.to(tl.float32), axis=0)
        incoming = incoming.to(KIND)
        to_last += tl.dot(tl.trans(incoming), hidden, input_precision=PRECISION)
        back = tl.where(hidden > 0, tl.dot(incoming, last, input_precision=PRECISION), 0.0)
        if INNER:
            to_inner_bias += tl.sum(back, axis=0)
            to_inner += tl.dot(tl.trans(back.to(KIND)), before, input_precision=PRECISION)
            back = tl.where(before > 0, tl.dot(back.to(KIND), inner, input_precision=PRECISION), 0.0)
        to_first_bias += tl.sum(back, axis=0)
        if EXTRA:
            to_extra += tl.sum(more * back, axis=0)
        to_first += tl.dot(tl.trans(back.to(KIND)), inputs, input_precision=PRECISION)
        to_input = tl.dot(back.to(KIND), first, input_precision=PRECISION)
        own = there & (column >= SHARED) & (column < INPUTS)
        place_of_own = to_samples + wide * (INPUTS - SHARED) + (column - SHARED)
        tl.store(place_of_own, to_input.to(to_samples.dtype.element_ty), mask=own)
        if GATED:
            to_gate = tl.sum(back * row, axis=1)[:, None]
            tl.store(to_gates + place, to_gate.to(to_gates.dtype.element_ty), mask=there)
        # Mostly one frame: the samples of a frame lie side by side.
        seen = tl.where(there, frame, 0)
        begin = tl.min(tl.min(tl.where(there, frame, num_frames - 1), axis=1), axis=0)
        end = tl.max(tl.max(seen, axis=1), axis=0)
        for each in range(begin, end + 1):
            to_row = tl.sum(tl.where(there & (frame == each), gate * back, 0.0), axis=0)
            tl.atomic_add(to_rows + each * HIDDEN + hidden_channel, to_row, sem="relaxed")
    place = place_of_shares
    row, out = hidden_channel[:, None], tl.arange(0, PADDED_OUT)
    tl.store(place + row * COLUMNS + column, to_first, mask=column < INPUTS)
    if EXTRA:
        tl.store(place + hidden_channel * COLUMNS + INPUTS, to_extra)
    place += HIDDEN * COLUMNS
    if INNER:
        tl.store(place + row * HIDDEN + hidden_channel[None, :], to_inner)
        place += HIDDEN * HIDDEN
    tl.store(place + out[:, None] * HIDDEN + hidden_channel[None, :], to_last, mask=out[:, None] < OUTPUTS)
    place += OUTPUTS * HIDDEN
    tl.store(place + hidden_channel, to_first_bias)
    place += HIDDEN
    if INNER:
        tl.store(place + hidden_channel, to_inner_bias)
        place += HIDDEN
    tl.store(place + out, to_last_bias, mask=out < OUTPUTS)
