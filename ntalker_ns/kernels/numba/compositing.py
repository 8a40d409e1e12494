"""Compositing of packed samples on the CPU, parallel over rays."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import KERNEL_LOCK
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, Composited


def composite(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """See `kernels.reference.compositing.composite`; float32 or float64, as the density is.

    Raises:
        ValueError: rays follow one another, and their counts do not add up to the samples.
    """
    if ray_ends is None and int(ray_counts.sum()) != len(density):
        raise ValueError(f"ray_counts add up to {int(ray_counts.sum())}, but there are {len(density)} samples.")
    dtype = density.dtype
    counts = ray_counts.to(torch.int64)
    ends = torch.cumsum(counts, dim=0) if ray_ends is None else ray_ends
    return Composited(*_Composite.apply(density, values.to(dtype), distances.to(dtype), step, counts, ends))  # type: ignore[misc]


def add_samples(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    rays: Int[Tensor, "some"],
    counts: Int[Tensor, "some"],
    light: Float[Tensor, "rays"],
    sums: Float[Tensor, "rays sums"],
) -> None:
    """See `kernels.reference.compositing.add_samples`."""
    arrays = [each.contiguous().numpy() for each in (density, values, distances, rays, counts)]
    with KERNEL_LOCK:
        _add_samples(*arrays, np.cumsum(arrays[-1]), np.float32(step), light.numpy(), sums.numpy())  # pyright: ignore[reportCallIssue]


@njit(inline="always")
def _opacity(density, step):
    """1 - exp(-density step): exact in float64, and twice as fast as expm1 in float32."""
    return 1.0 - np.exp(-np.float64(density) * step)


@njit(parallel=True, cache=True)
def _add_samples(density, values, distances, rays, counts, ends, step, light, sums):
    last = values.shape[1]
    for i in prange(rays.shape[0]):
        ray = rays[i]
        through = light[ray]
        for sample in range(ends[i] - counts[i], ends[i]):
            weight = through * _opacity(density[sample], step)
            through -= weight
            for channel in range(last):
                sums[ray, channel] += weight * values[sample, channel]
            sums[ray, last] += weight * distances[sample]
        light[ray] = through


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, values: Tensor, distances: Tensor, step: float, counts: Tensor, ends: Tensor
    ) -> tuple[Tensor, ...]:
        given = [each.contiguous() for each in (density, values, distances, counts, ends)]
        ctx.step = density.numpy().dtype.type(step)
        # Samples of no ray keep these zeros.
        weights, through = _zeros_like(density), _zeros_like(density)
        sums = values.new_empty(len(counts), values.shape[1])
        of_rays = density.new_empty(4, len(counts))
        found = (each.numpy() for each in (sums, of_rays, weights, through))
        with KERNEL_LOCK:
            _forward(*(each.numpy() for each in given), ctx.step, *found)  # pyright: ignore[reportCallIssue]
        ctx.save_for_backward(*given[1:], of_rays[3], weights, through)
        return sums, *(each.view(-1, 1) for each in of_rays[:3].unbind()), weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, *_, through = ctx.saved_tensors
        density_gradient, values_gradient = _zeros_like(through), _zeros_like(values)
        of_sums, *of_rays, of_weights = (each.contiguous() for each in gradients)
        given = (*ctx.saved_tensors, of_sums, *(each.view(-1) for each in of_rays), of_weights)
        outputs = (density_gradient, values_gradient)
        with KERNEL_LOCK:
            _backward(ctx.step, *(each.numpy() for each in (*given, *outputs)))  # pyright: ignore[reportCallIssue]
        return density_gradient, values_gradient, None, None, None, None


def _zeros_like(tensor: Tensor) -> Tensor:
    """Zeros from one thread: torch's threads would compete with those of the kernels."""
    return torch.from_numpy(np.zeros_like(tensor.numpy()))


@njit(parallel=True, cache=True)
def _forward(density, values, distances, counts, ends, step, sums, of_rays, weights, through):
    """Writes sums along rays; accumulation, distance, thickness and mean distance; and for each sample its weight and
    the transmittance up to its end, both 0 behind the end of the ray."""
    for ray in prange(counts.shape[0]):
        first, last = ends[ray] - counts[ray], ends[ray]
        sums[ray] = 0
        transmittance = 1.0
        total, moment, squares = 0.0, 0.0, 0.0
        # Distances are relative to the first sample, so that their squares do not cancel.
        begin = distances[first] if first < last else density.dtype.type(0)
        for i in range(first, last):
            if transmittance < MIN_TRANSMITTANCE:
                weights[i], through[i] = 0, 0
                continue
            weight = transmittance * _opacity(density[i], step)
            transmittance -= weight
            weights[i], through[i] = weight, transmittance
            along = np.float64(distances[i] - begin)
            total += weight
            moment += weight * along
            squares += weight * along * along
            for channel in range(values.shape[1]):
                sums[ray, channel] += weight * values[i, channel]
        mean = moment / total if total > 0 else 0.0
        of_rays[0, ray], of_rays[1, ray] = total, moment + total * begin
        of_rays[2, ray], of_rays[3, ray] = max(squares - moment * mean, 0.0), mean + begin


@njit(parallel=True, cache=True)
def _backward(
    step,
    values,
    distances,
    counts,
    ends,
    mean,
    weights,
    through,
    sums_gradient,
    accumulation_gradient,
    distance_gradient,
    thickness_gradient,
    weights_gradient,
    density_gradient,
    values_gradient,
):
    """With G_i the gradient of w_i: d/d(density_i step) = G_i T_(i+1) - sum of G_j w_j over j > i.

    Gradients are zeros before. Thickness is least at its mean, which therefore counts as constant.
    """
    for ray in prange(counts.shape[0]):
        first, last = ends[ray] - counts[ray], ends[ray]
        behind = 0.0
        for i in range(last - 1, first - 1, -1):
            if weights[i] == 0 and through[i] == 0:
                # Behind the end of the ray.
                continue
            off = distances[i] - mean[ray]
            gradient = accumulation_gradient[ray] + weights_gradient[i]
            gradient += distance_gradient[ray] * distances[i] + thickness_gradient[ray] * off * off
            for channel in range(values.shape[1]):
                gradient += sums_gradient[ray, channel] * values[i, channel]
                values_gradient[i, channel] = weights[i] * sums_gradient[ray, channel]
            density_gradient[i] = step * (gradient * through[i] - behind)
            behind += gradient * weights[i]
