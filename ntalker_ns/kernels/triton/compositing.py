"""Compositing of packed samples on CUDA."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.reference.compositing import add_composited
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, Composited

RAYS = 4
"""Rays of a tile."""
SAMPLES = 32
"""Samples of a ray in a tile: most rays have no more."""
LEAST_LIGHT = tl.constexpr(MIN_TRANSMITTANCE)
"""`MIN_TRANSMITTANCE`, where kernels can read it."""


def composite(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """See `kernels.reference.compositing.composite`; float64 is computed in float64, everything else in float32.

    Without synchronisation: whether the counts add up to the samples is not checked.
    """
    kind = torch.float64 if density.dtype == torch.float64 else torch.float32
    counts = ray_counts.to(torch.int64)
    ends = torch.cumsum(counts, dim=0) if ray_ends is None else ray_ends
    given = (each.to(kind) for each in (density, values, distances))
    return Composited(*_Composite.apply(*given, step, counts, ends))  # type: ignore[misc]


def add_samples(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    rays: Int[Tensor, "some"],
    counts: Int[Tensor, "some"],
    light: Float[Tensor, "rays"],
    sums: Float[Tensor, "rays channels+1"],
) -> None:
    """See `kernels.reference.compositing.add_samples`."""
    add_composited(composite(density, values, distances, step, counts), rays, light, sums)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, values: Tensor, distances: Tensor, step: float, counts: Tensor, ends: Tensor
    ) -> tuple[Tensor, ...]:
        given = [each.contiguous() for each in (density, values, distances, counts, ends)]
        sums = values.new_empty(len(counts), values.shape[1])
        of_rays = density.new_empty(4, len(counts))
        # Samples of no ray keep these zeros.
        weights, behind = torch.zeros_like(density), torch.zeros_like(density)
        _launch(composite_forward, (*given, sums, of_rays, weights, behind), step, *sums.shape)
        ctx.step = step
        ctx.save_for_backward(*given[1:], of_rays[3], weights, behind)
        return sums, *(each.view(-1, 1) for each in of_rays[:3].unbind()), weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, *_, weights, _ = ctx.saved_tensors
        density_gradient, values_gradient = torch.zeros_like(weights), torch.zeros_like(values)
        given = (*ctx.saved_tensors, *(each.contiguous() for each in gradients), density_gradient, values_gradient)
        _launch(composite_backward, given, ctx.step, *gradients[0].shape)
        return density_gradient, values_gradient, None, None, None, None


def _launch(kernel: Any, tensors: tuple[Tensor, ...], step: float, rays: int, channels: int) -> None:
    """Runs a kernel over all rays."""
    if not rays:
        return
    with torch.cuda.device_of(tensors[0]):
        kernel[(triton.cdiv(rays, RAYS),)](
            *tensors,
            step,
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
    values,
    distances,
    counts,
    ends,
    sums,
    of_rays,
    weights,
    behind,
    step,
    num_rays,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """w_i = T_i (1 - exp(-density_i step)), and 0 once T_i is below 1e-4; `behind` is then 0 too, else T_(i+1).

    `of_rays` holds accumulation, distance, thickness and mean distance. Distances are relative to the first sample, so
    that their squares do not cancel.
    """
    kind: tl.constexpr = density.dtype.element_ty
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    count = tl.load(counts + ray, mask=ray < num_rays, other=0)
    first = tl.load(ends + ray, mask=ray < num_rays, other=0) - count
    begin = tl.load(distances + first, mask=count > 0, other=0)
    channel = tl.arange(0, PADDED)[None, None, :]
    optical_depth = tl.zeros([RAYS, 1], kind)
    total = tl.zeros([RAYS, 1], kind)
    moment = tl.zeros([RAYS, 1], kind)
    squares = tl.zeros([RAYS, 1], kind)
    summed = tl.zeros([RAYS, PADDED], kind)
    longest = tl.max(tl.max(count, axis=1), axis=0)
    for chunk in range(0, longest, SAMPLES):
        place = chunk + tl.arange(0, SAMPLES)[None, :]
        there = place < count
        sample = first + place
        depth = tl.load(density + sample, mask=there, other=0) * step
        # The sum over the samples before is summed as such: less this sample's own depth it would lose small ones
        # before a large one.
        before = tl.load(density + sample - 1, mask=there & (place > chunk), other=0) * step
        transmittance = tl.exp(-(optical_depth + tl.cumsum(before, axis=1)))
        # Compared this way round, NaN passes and shows.
        transmittance = tl.where(there & ~(transmittance < LEAST_LIGHT), transmittance, 0)
        passed = tl.exp(-depth)
        weight = transmittance * (1 - passed)
        tl.store(weights + sample, weight, mask=there)
        tl.store(behind + sample, transmittance * passed, mask=there)
        value_there = there[:, :, None] & (channel < CHANNELS)
        value = tl.load(values + sample[:, :, None] * CHANNELS + channel, mask=value_there, other=0)
        along = tl.load(distances + sample, mask=there, other=0) - begin
        summed += tl.sum(weight[:, :, None] * value, axis=1)
        total += tl.sum(weight, axis=1)[:, None]
        moment += tl.sum(weight * along, axis=1)[:, None]
        squares += tl.sum(weight * along * along, axis=1)[:, None]
        optical_depth += tl.sum(depth, axis=1)[:, None]
    mean = tl.where(total == 0, 0, moment / tl.where(total == 0, 1, total))
    thickness = squares - moment * mean
    there = ray < num_rays
    tl.store(of_rays + ray, total, mask=there)
    tl.store(of_rays + num_rays + ray, moment + total * begin, mask=there)
    tl.store(of_rays + 2 * num_rays + ray, tl.where(thickness < 0, 0, thickness), mask=there)
    tl.store(of_rays + 3 * num_rays + ray, mean + begin, mask=there)
    column = tl.arange(0, PADDED)[None, :]
    tl.store(sums + ray * CHANNELS + column, summed, mask=there & (column < CHANNELS))


@triton.jit(do_not_specialize=["num_rays"])
def composite_backward(
    values,
    distances,
    counts,
    ends,
    mean,
    weights,
    behind,
    sums_gradient,
    accumulation_gradient,
    distance_gradient,
    thickness_gradient,
    weights_gradient,
    density_gradient,
    values_gradient,
    step,
    num_rays,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """With G_i the gradient of w_i: d/d(density_i step) = G_i T_(i+1) - sum of G_j w_j over j > i, back to front.

    Thickness is the least sum of weighted squares, so that its mean may be taken as fixed.
    """
    kind: tl.constexpr = weights.dtype.element_ty
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    ray_there = ray < num_rays
    count = tl.load(counts + ray, mask=ray_there, other=0)
    first = tl.load(ends + ray, mask=ray_there, other=0) - count
    column = tl.arange(0, PADDED)[None, :]
    to_sums = tl.load(sums_gradient + ray * CHANNELS + column, mask=ray_there & (column < CHANNELS), other=0)[
        :, None, :
    ]
    to_all = tl.load(accumulation_gradient + ray, mask=ray_there, other=0)
    to_distance = tl.load(distance_gradient + ray, mask=ray_there, other=0)
    to_thickness = tl.load(thickness_gradient + ray, mask=ray_there, other=0)
    middle = tl.load(mean + ray, mask=ray_there, other=0)
    channel = tl.arange(0, PADDED)[None, None, :]
    hidden = tl.zeros([RAYS, 1], kind)
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
        distance = tl.load(distances + sample, mask=there, other=0)
        off = distance - middle
        to_weight = to_all + tl.load(weights_gradient + sample, mask=there, other=0) + tl.sum(to_sums * value, axis=2)
        to_weight += to_distance * distance + to_thickness * off * off
        share = to_weight * weight
        hidden_here = hidden + tl.cumsum(share, axis=1, reverse=True) - share
        passed = tl.load(behind + sample, mask=there, other=0)
        tl.store(density_gradient + sample, step * (to_weight * passed - hidden_here), mask=there)
        tl.store(values_gradient + value_place, weight[:, :, None] * to_sums, mask=value_there)
        hidden += tl.sum(share, axis=1)[:, None]
