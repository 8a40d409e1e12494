"""Volume rendering of packed samples (paper, Eq. 1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.encodings.hash_grid import automatic_backend

MIN_TRANSMITTANCE = 1e-4
"""A ray that lets less light through than this is finished; what lies behind adds nothing."""


@dataclass
class Composited:
    """Sums along rays."""

    values: Float[Tensor, "rays channels"]
    accumulation: Float[Tensor, "rays 1"]
    weights: Float[Tensor, "samples"]


def composite_torch(
    density: Float[Tensor, "samples"],
    deltas: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """Front-to-back compositing, readable and on any device: rays are padded to the longest.

    w_i = T_i (1 - exp(-density_i delta_i)), T_i = exp(-sum of density_j delta_j over j < i), and w_i = 0 where
    T_i < `MIN_TRANSMITTANCE`.

    Args:
        density: per world unit, samples of a ray side by side and front to back.
        deltas: step lengths in world units.
        values: what is summed.
        ray_counts: samples of each ray.
        ray_ends: the place behind each ray's last sample; samples that are of no ray weigh nothing. None: rays follow
            one another and have all samples.
    """
    rays = ray_counts.shape[0]
    longest = int(ray_counts.max()) if rays else 0
    ends = torch.cumsum(ray_counts, 0) if ray_ends is None else ray_ends
    slots = torch.arange(longest, device=density.device)
    there = slots < ray_counts[:, None]
    ray, slot = there.nonzero(as_tuple=True)
    sample = (ends - ray_counts)[ray] + slot
    depth = density.new_zeros(rays, longest).index_put((ray, slot), (density * deltas)[sample])
    before = torch.cumsum(depth, dim=1) - depth
    transmittance = torch.exp(-before)
    padded = transmittance * (1.0 - torch.exp(-depth)) * (transmittance >= MIN_TRANSMITTANCE)
    weights = torch.zeros_like(density).index_put((sample,), padded[ray, slot])
    summed = values.new_zeros(rays, values.shape[-1]).index_add(0, ray, padded[ray, slot][:, None] * values[sample])
    return Composited(values=summed, accumulation=padded.sum(dim=1, keepdim=True), weights=weights)


def composite(
    density: Float[Tensor, "samples"],
    deltas: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """`composite_torch`, by the fastest implementation for the device (the same numbers)."""
    backend = automatic_backend(density.device.type)
    if backend == "torch":
        return composite_torch(density, deltas, values, ray_counts, ray_ends)
    if backend == "numba":
        from ntalker_ns.rendering.numba_compositing import composite as fused
    else:
        from ntalker_ns.rendering.triton_compositing import composite as fused
    summed, accumulation, weights = fused(density, deltas, values, ray_counts, ray_ends)
    return Composited(values=summed, accumulation=accumulation.view(-1, 1), weights=weights)


def add_samples(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    step: float,
    rays: Int[Tensor, "chosen"],
    counts: Int[Tensor, "chosen"],
    light: Float[Tensor, "rays"],
    sums: Float[Tensor, "rays channels"],
) -> None:
    """Composites the next samples of some rays behind those that were composited before; no gradient.

    Args:
        density: per world unit, samples of a ray side by side and front to back.
        values: what is summed.
        step: length of each sample, world units.
        rays: whose samples they are, each once.
        counts: samples of each of these.
        light: what comes through each ray so far; written.
        sums: along each ray so far; written.
    """
    if automatic_backend(density.device.type) == "numba":
        from ntalker_ns.rendering import numba_compositing

        return numba_compositing.add_samples(density, values, step, rays, counts, light, sums)
    part = composite(density, torch.full_like(density, step), values, counts)
    before = light[rays]
    sums.index_add_(0, rays, before[:, None] * part.values)
    light[rays] = before * (1.0 - part.accumulation[:, 0])
