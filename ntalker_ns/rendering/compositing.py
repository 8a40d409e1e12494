"""Volume rendering of packed samples (paper, Eq. 1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.reference.compositing import Composited, composite_torch


def composite(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """`composite_torch`, by the fastest implementation for the device (the same numbers)."""
    backend = automatic_backend(density.device.type)
    if backend == "torch":
        return composite_torch(density, values, distances, step, ray_counts, ray_ends)
    if backend == "numba":
        from ntalker_ns.kernels.numba.compositing import composite as fused
    else:
        from ntalker_ns.kernels.triton.compositing import composite as fused
    summed, accumulation, distance, thickness, weights = fused(density, values, distances, step, ray_counts, ray_ends)
    return Composited(summed, accumulation.view(-1, 1), distance.view(-1, 1), thickness.view(-1, 1), weights)


def add_samples(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    rays: Int[Tensor, "chosen"],
    counts: Int[Tensor, "chosen"],
    light: Float[Tensor, "rays"],
    sums: Float[Tensor, "rays sums"],
) -> None:
    """Composites the next samples of some rays behind those that were composited before; no gradient.

    Args:
        density: per world unit, samples of a ray side by side and front to back.
        values: what is summed.
        distances: summed behind them.
        step: length of each sample, world units.
        rays: whose samples they are, each once.
        counts: samples of each of these.
        light: what comes through each ray so far; written.
        sums: along each ray so far; written.
    """
    if automatic_backend(density.device.type) == "numba":
        from ntalker_ns.kernels.numba import compositing as numba_compositing

        return numba_compositing.add_samples(density, values, distances, step, rays, counts, light, sums)
    part = composite(density, values, distances, step, counts)
    before = light[rays]
    sums.index_add_(0, rays, before[:, None] * torch.cat([part.values, part.distance], dim=-1))
    light[rays] = before * (1.0 - part.accumulation[:, 0])
