"""Compositing of packed samples on the CPU: numba kernels behind a torch autograd function, parallel over rays.

Importing this module imports numba; import it where samples are first composited.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit, prange
from torch import Tensor

from ntalker_ns.encodings.numba_common import KERNEL_LOCK

MIN_TRANSMITTANCE = 1e-4
"""Samples behind which less light than this comes through weigh nothing."""


def composite(
    density: Float[Tensor, "samples"],
    deltas: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays"], Float[Tensor, "samples"]]:
    """Sums values along rays, front to back: w_i = T_i (1 - exp(-density_i delta_i)), and 0 once T_i is below 1e-4.

    T_i = exp(-sum of density_j delta_j over j < i). Differentiable in density and values, through all three results.

    Args:
        density: (S,) float32 or float64, per world unit, samples of a ray side by side and front to back.
        deltas: (S,) step lengths, world units; no gradient.
        values: (S, C) what is summed.
        ray_counts: (R,) samples of each ray.
        ray_ends: (R,) the place behind each ray's last sample; samples that are of no ray weigh nothing. None: rays
            follow one another and have all samples.

    Returns:
        Sums (R, C), accumulated weights (R,) in [0, 1], and weights (S,), in the type of the density.

    Raises:
        ValueError: rays follow one another, and their counts do not add up to the samples.
    """
    if ray_ends is None and int(ray_counts.sum()) != len(density):
        raise ValueError(f"ray_counts add up to {int(ray_counts.sum())}, but there are {len(density)} samples.")
    kind = density.dtype
    arguments = density, deltas.to(kind), values.to(kind), ray_counts.to(torch.int64), ray_ends
    return _Composite.apply(*arguments)  # pyright: ignore[reportReturnType]


def add_samples(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    step: float,
    rays: Int[Tensor, "chosen"],
    counts: Int[Tensor, "chosen"],
    light: Float[Tensor, "rays"],
    sums: Float[Tensor, "rays channels"],
) -> None:
    """`ntalker_ns.rendering.compositing.add_samples` in one pass over the rays."""
    arrays = [each.contiguous().numpy() for each in (density, values, rays, counts)]
    with KERNEL_LOCK:
        _add_samples(*arrays, np.cumsum(arrays[3]), np.float32(step), light.numpy(), sums.numpy())  # pyright: ignore[reportCallIssue]


@njit(parallel=True, cache=True)
def _add_samples(density, values, rays, counts, ends, step, light, sums):
    for i in prange(rays.shape[0]):
        ray = rays[i]
        through = light[ray]
        for sample in range(ends[i] - counts[i], ends[i]):
            weight = through * -np.expm1(-density[sample] * step)
            through -= weight
            for channel in range(values.shape[1]):
                sums[ray, channel] += weight * values[sample, channel]
        light[ray] = through


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
        weights = torch.zeros_like(density)
        with KERNEL_LOCK:
            _forward(
                density.numpy(),
                deltas.numpy(),
                values.numpy(),
                ray_counts.numpy(),
                ends.numpy(),
                sums.numpy(),
                accumulation.numpy(),
                weights.numpy(),
            )
        ctx.save_for_backward(density, deltas, values, ray_counts, ends, weights)
        return sums, accumulation, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        density, deltas, values, ray_counts, ends, weights = ctx.saved_tensors
        density_gradient, values_gradient = torch.zeros_like(density), torch.zeros_like(values)
        sums_gradient, accumulation_gradient, weights_gradient = (each.contiguous() for each in gradients)
        with KERNEL_LOCK:
            _backward(
                density.numpy(),
                deltas.numpy(),
                values.numpy(),
                ray_counts.numpy(),
                ends.numpy(),
                weights.numpy(),
                sums_gradient.numpy(),
                accumulation_gradient.numpy(),
                weights_gradient.numpy(),
                density_gradient.numpy(),
                values_gradient.numpy(),
            )
        return density_gradient, None, values_gradient, None, None


@njit(parallel=True, cache=True)
def _forward(density, deltas, values, counts, ends, sums, accumulation, weights):
    for ray in prange(counts.shape[0]):
        sums[ray] = 0
        transmittance = 1.0
        total = 0.0
        for i in range(ends[ray] - counts[ray], ends[ray]):
            if transmittance < MIN_TRANSMITTANCE:
                weights[i] = 0
                continue
            opacity = -np.expm1(-density[i] * deltas[i])
            weight = transmittance * opacity
            transmittance -= weight
            total += weight
            weights[i] = weight
            for channel in range(values.shape[1]):
                sums[ray, channel] += weight * values[i, channel]
        accumulation[ray] = total


@njit(parallel=True, cache=True)
def _backward(
    density,
    deltas,
    values,
    counts,
    ends,
    weights,
    sums_gradient,
    accumulation_gradient,
    weights_gradient,
    density_gradient,
    values_gradient,
):
    """With G_i the gradient of w_i: d/d(density_i delta_i) = G_i T_(i+1) - sum of G_j w_j over j > i."""
    for ray in prange(counts.shape[0]):
        first, last = ends[ray] - counts[ray], ends[ray]
        transmittance = 1.0
        alive = last
        for i in range(first, last):
            if transmittance < MIN_TRANSMITTANCE:
                alive = min(alive, i)
                density_gradient[i] = 0
                values_gradient[i] = 0
                continue
            # As in the forward pass, to the last bit, so that both end the ray at the same sample.
            transmittance -= transmittance * -np.expm1(-density[i] * deltas[i])
            density_gradient[i] = transmittance
        behind = 0.0
        for i in range(alive - 1, first - 1, -1):
            gradient = accumulation_gradient[ray] + weights_gradient[i]
            for channel in range(values.shape[1]):
                gradient += sums_gradient[ray, channel] * values[i, channel]
                values_gradient[i, channel] = weights[i] * sums_gradient[ray, channel]
            density_gradient[i] = deltas[i] * (gradient * density_gradient[i] - behind)
            behind += gradient * weights[i]
