"""Compositing of packed samples on CUDA: Triton kernels behind a torch autograd function.

Importing this module imports Triton; import it where samples are first composited.
"""

# What a kernel says is compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

RAYS = 4
"""Rays of a tile."""
SAMPLES = 32
"""Samples of a ray in a tile: most rays have no more."""
MIN_TRANSMITTANCE = tl.constexpr(1e-4)
"""Samples behind which less light than this comes through weigh nothing."""


def composite(
    density: Float[Tensor, "samples"],
    deltas: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays"], Float[Tensor, "samples"]]:
    """Sums values along rays, front to back; the same numbers as `composite_torch`.

    Differentiable in density and values, through all three results. The host waits for nothing: whether the counts add
    up to the samples is not checked.

    Args:
        density: (S,) per world unit, samples of a ray side by side and front to back; float64 is computed in itself,
            everything else in float32.
        deltas: (S,) step lengths, world units; no gradient.
        values: (S, C) what is summed.
        ray_counts: (R,) samples of each ray.
        ray_ends: (R,) the place behind each ray's last sample; samples that are of no ray weigh nothing. None: rays
            follow one another and have all samples.

    Returns:
        Sums (R, C), accumulated weights (R,) in [0, 1], and weights (S,).
    """
    kind = torch.float64 if density.dtype == torch.float64 else torch.float32
    arguments = density.to(kind), deltas.to(kind), values.to(kind), ray_counts.to(torch.int64), ray_ends
    return _Composite.apply(*arguments)  # pyright: ignore[reportReturnType]


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, deltas: Tensor, values: Tensor, ray_counts: Tensor, ray_ends: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        density, deltas, values = density.contiguous(), deltas.contiguous(), values.contiguous()
        ray_counts = ray_counts.contiguous()
        ends = torch.cumsum(ray_counts, dim=0) if ray_ends is None else ray_ends.contiguous()
        sums = values.new_empty(len(ray_counts), values.shape[1])
        accumulation = density.new_empty(len(ray_counts))
        # What is of no ray stays as it is made here.
        weights, behind = torch.zeros_like(density), torch.zeros_like(density)
        tensors = (density, deltas, values, ray_counts, ends, sums, accumulation, weights, behind)
        _launch(composite_forward, tensors, *sums.shape)
        ctx.save_for_backward(deltas, values, ray_counts, ends, weights, behind)
        return sums, accumulation, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        deltas, values, ray_counts, ends, weights, behind = ctx.saved_tensors
        density_gradient, values_gradient = torch.zeros_like(deltas), torch.zeros_like(values)
        incoming = [each.contiguous() for each in gradients]
        tensors = (deltas, values, ray_counts, ends, weights, behind, *incoming, density_gradient, values_gradient)
        _launch(composite_backward, tensors, *gradients[0].shape)
        return density_gradient, None, values_gradient, None, None


def _launch(kernel: Any, tensors: tuple[Tensor, ...], rays: int, channels: int) -> None:
    """Runs a kernel over all rays."""
    if not rays:
        return
    with torch.cuda.device_of(tensors[0]):
        kernel[(triton.cdiv(rays, RAYS),)](
            *tensors,
            rays,
            CHANNELS=channels,
            PADDED=triton.next_power_of_2(channels),
            RAYS=RAYS,
            SAMPLES=SAMPLES,
            num_warps=4,
            enable_fp_fusion=True,
        )


@triton.jit(do_not_specialize=["num_rays"])
def composite_forward(
    density,
    deltas,
    values,
    counts,
    ends,
    sums,
    accumulation,
    weights,
    behind,
    num_rays,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """w_i = T_i (1 - exp(-density_i delta_i)), and 0 once T_i is below 1e-4; `behind` is then 0 too, else T_(i+1)."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    count = tl.load(counts + ray, mask=ray < num_rays, other=0)
    first = tl.load(ends + ray, mask=ray < num_rays, other=0) - count
    channel = tl.arange(0, PADDED)[None, None, :]
    optical_depth = tl.zeros([RAYS, 1], density.dtype.element_ty)
    total = tl.zeros([RAYS, 1], density.dtype.element_ty)
    summed = tl.zeros([RAYS, PADDED], density.dtype.element_ty)
    longest = tl.max(tl.max(count, axis=1), axis=0)
    for chunk in range(0, longest, SAMPLES):
        place = chunk + tl.arange(0, SAMPLES)[None, :]
        there = place < count
        sample = first + place
        step = tl.load(density + sample, mask=there, other=0) * tl.load(deltas + sample, mask=there, other=0)
        # The sum over the samples before is summed as such: less this sample's own step it would lose small ones
        # before a large one.
        earlier = there & (place > chunk)
        before = tl.load(density + sample - 1, mask=earlier, other=0) * tl.load(
            deltas + sample - 1, mask=earlier, other=0
        )
        transmittance = tl.exp(-(optical_depth + tl.cumsum(before, axis=1)))
        # Asked this way round, what is not a number passes and shows.
        transmittance = tl.where(there & ~(transmittance < MIN_TRANSMITTANCE), transmittance, 0)
        passed = tl.exp(-step)
        weight = transmittance * (1 - passed)
        tl.store(weights + sample, weight, mask=there)
        tl.store(behind + sample, transmittance * passed, mask=there)
        value_there = there[:, :, None] & (channel < CHANNELS)
        value = tl.load(values + sample[:, :, None] * CHANNELS + channel, mask=value_there, other=0)
        summed += tl.sum(weight[:, :, None] * value, axis=1)
        total += tl.sum(weight, axis=1)[:, None]
        optical_depth += tl.sum(step, axis=1)[:, None]
    tl.store(accumulation + ray, total, mask=ray < num_rays)
    column = tl.arange(0, PADDED)[None, :]
    tl.store(sums + ray * CHANNELS + column, summed, mask=(ray < num_rays) & (column < CHANNELS))


@triton.jit(do_not_specialize=["num_rays"])
def composite_backward(
    deltas,
    values,
    counts,
    ends,
    weights,
    behind,
    sums_gradient,
    accumulation_gradient,
    weights_gradient,
    density_gradient,
    values_gradient,
    num_rays,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """With G_i the gradient of w_i: d/d(density_i delta_i) = G_i T_(i+1) - sum of G_j w_j over j > i, back to front."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    ray_there = ray < num_rays
    count = tl.load(counts + ray, mask=ray_there, other=0)
    first = tl.load(ends + ray, mask=ray_there, other=0) - count
    column = tl.arange(0, PADDED)[None, :]
    to_sums = tl.load(sums_gradient + ray * CHANNELS + column, mask=ray_there & (column < CHANNELS), other=0)[
        :, None, :
    ]
    to_all = tl.load(accumulation_gradient + ray, mask=ray_there, other=0)
    channel = tl.arange(0, PADDED)[None, None, :]
    hidden = tl.zeros([RAYS, 1], deltas.dtype.element_ty)
    longest = tl.max(tl.max(count, axis=1), axis=0)
    last_chunk = (longest - 1) // SAMPLES * SAMPLES
    for back in range(0, longest, SAMPLES):
        place = last_chunk - back + tl.arange(0, SAMPLES)[None, :]
        there = place < count
        sample = first + place
        value_there = there[:, :, None] & (channel < CHANNELS)
        value_place = sample[:, :, None] * CHANNELS + channel
        value = tl.load(values + value_place, mask=value_there, other=0)
        weight = tl.load(weights + sample, mask=there, other=0)
        to_weight = to_all + tl.load(weights_gradient + sample, mask=there, other=0) + tl.sum(to_sums * value, axis=2)
        share = to_weight * weight
        hidden_here = hidden + tl.cumsum(share, axis=1, reverse=True) - share
        passed = tl.load(behind + sample, mask=there, other=0)
        delta = tl.load(deltas + sample, mask=there, other=0)
        tl.store(density_gradient + sample, delta * (to_weight * passed - hidden_here), mask=there)
        tl.store(values_gradient + value_place, weight[:, :, None] * to_sums, mask=value_there)
        hidden += tl.sum(share, axis=1)[:, None]
