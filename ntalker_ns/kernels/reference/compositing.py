"""Volume rendering of packed samples (paper, Eq. 1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, Composited


def composite(
    density: Float[Tensor, "samples"],
    values: Float[Tensor, "samples channels"],
    distances: Float[Tensor, "samples"],
    step: float,
    ray_counts: Int[Tensor, "rays"],
    ray_ends: Int[Tensor, "rays"] | None = None,
) -> Composited:
    """Front-to-back compositing; here rays are padded to the longest.

    w_i = T_i (1 - exp(-density_i step)), T_i = exp(-sum of density_j step over j < i), and w_i = 0 where
    T_i < `MIN_TRANSMITTANCE`. Differentiable in density and values, through all results.

    Args:
        density: per world unit, samples of a ray side by side and front to back.
        values: what is summed.
        distances: of samples from the origins of their rays, world units; no gradient.
        step: length of each sample, world units.
        ray_counts: samples of each ray.
        ray_ends: index behind each ray's last sample; samples of no ray have weight 0. None: rays follow one another
            and have all samples.
    """
    rays = ray_counts.shape[0]
    longest = int(ray_counts.max()) if rays else 0
    ends = torch.cumsum(ray_counts, 0) if ray_ends is None else ray_ends
    slots = torch.arange(longest, device=density.device)
    present = slots < ray_counts[:, None]
    ray, slot = present.nonzero(as_tuple=True)
    sample = (ends - ray_counts)[ray] + slot
    depth = density.new_zeros(rays, longest).index_put((ray, slot), density[sample] * step)
    before = torch.cumsum(depth, dim=1) - depth
    transmittance = torch.exp(-before)
    padded = transmittance * (1.0 - torch.exp(-depth)) * (transmittance >= MIN_TRANSMITTANCE)
    weight, along = padded[ray, slot], distances[sample]

    def summed(of_samples: Tensor) -> Tensor:
        return of_samples.new_zeros(rays, of_samples.shape[-1]).index_add(0, ray, of_samples)

    accumulation, distance = (summed(each[:, None]) for each in (weight, weight * along))
    # A sum of weighted squares is least at the mean: to move that changes nothing.
    mean = (distance / accumulation.clamp(min=torch.finfo(density.dtype).tiny)).detach()
    return Composited(
        values=summed(weight[:, None] * values[sample]),
        accumulation=accumulation,
        distance=distance,
        thickness=summed((weight * (along - mean[ray, 0]).square())[:, None]),
        weights=torch.zeros_like(density).index_put((sample,), weight),
    )


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
    """Composites the next samples of some rays behind those that were composited before; no gradient.

    Args:
        density: per world unit, samples of a ray side by side and front to back.
        values: what is summed.
        distances: summed in the last channel.
        step: length of each sample, world units.
        rays: whose samples they are, each once.
        counts: samples of each of these.
        light: transmittance of each ray so far; written.
        sums: along each ray so far; written.
    """
    add_composited(composite(density, values, distances, step, counts), rays, light, sums)


def add_composited(part: Composited, rays: Tensor, light: Tensor, sums: Tensor) -> None:
    """`add_samples` of samples that are composited by themselves."""
    before = light[rays]
    sums.index_add_(0, rays, before[:, None] * torch.cat([part.values, part.distance], dim=-1))
    light[rays] = before * (1.0 - part.accumulation[:, 0])
