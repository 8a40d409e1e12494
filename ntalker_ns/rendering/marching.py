"""Which points of a ray the field is asked for: those in occupied cells, front to back, at most so many."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.encodings.hash_grid import automatic_backend


@dataclass
class RaySamples:
    """Samples of many rays, ray after ray."""

    starts: Float[Tensor, "samples"]
    """Distance from the ray's origin to where the sample begins, world units."""
    ends: Float[Tensor, "samples"]
    ray_counts: Int[Tensor, "rays"]

    @property
    def middles(self) -> Float[Tensor, "samples"]:
        """Distance to where the field is asked."""
        return 0.5 * (self.starts + self.ends)

    @property
    def rays(self) -> Int[Tensor, "samples"]:
        """The ray of each sample; the host does not wait for the device."""
        return torch.repeat_interleave(self.ray_counts, output_size=len(self.starts))


def intersect_box(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], bound: float = 1.0
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Where rays enter and leave the box [-bound, bound]^3 (slab method); far <= near for rays that miss it.

    Args:
        origins: world.
        directions: unit.
        bound: half the box's edge.
    """
    safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    one, two = (-bound - origins) / safe, (bound - origins) / safe
    near = torch.minimum(one, two).amax(dim=-1).clamp(min=0.0)
    far = torch.maximum(one, two).amin(dim=-1)
    return near, torch.maximum(far, near)


def march_torch(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, "rays"],
    far: Float[Tensor, "rays"],
    occupied: Bool[Tensor, "grid grid grid"],
    step: float,
    jitter: Float[Tensor, "rays"],
    max_samples: int,
) -> RaySamples:
    """Uniform steps t_k = near + (k + jitter) step; kept where the middle of the step lies in an occupied cell.

    Args:
        origins: world.
        directions: unit.
        near: where to begin.
        far: where to end.
        occupied: over the box [-1, 1]^3, indexed x, y, z.
        step: world units.
        jitter: in [0, 1), one a ray.
        max_samples: kept samples of a ray at most, the first ones.
    """
    grid = occupied.shape[0]
    lattice = torch.arange(int((far - near).max() / step) + 1 if len(near) else 0, device=near.device)
    starts = near[:, None] + (lattice + jitter[:, None]) * step
    middles = starts + 0.5 * step
    points = origins[:, None, :] + middles[..., None] * directions[:, None, :]
    cells = ((points + 1.0) * (0.5 * grid)).floor().long()
    inside = ((cells >= 0) & (cells < grid)).all(dim=-1) & (middles < far[:, None])
    cells = cells.clamp(0, grid - 1)
    keep = inside & occupied[cells[..., 0], cells[..., 1], cells[..., 2]]
    keep &= torch.cumsum(keep, dim=1) <= max_samples
    kept = starts[keep]
    return RaySamples(starts=kept, ends=kept + step, ray_counts=keep.sum(dim=1))


def march(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, "rays"],
    far: Float[Tensor, "rays"],
    occupied: Bool[Tensor, "grid grid grid"],
    step: float,
    jitter: Float[Tensor, "rays"],
    max_samples: int,
) -> RaySamples:
    """`march_torch`, by the fastest implementation for the device (the same samples)."""
    backend = automatic_backend(origins.device.type)
    if backend == "numba":
        from ntalker_ns.rendering import numba_marching

        starts, ends, counts = numba_marching.march(
            origins.detach().numpy(),
            directions.detach().numpy(),
            near.numpy(),
            far.numpy(),
            occupied.numpy(),
            step,
            jitter.numpy(),
            max_samples,
        )
        return RaySamples(torch.from_numpy(starts), torch.from_numpy(ends), torch.from_numpy(counts))
    arguments = (origins, directions, near, far, occupied, step, jitter, max_samples)
    if backend == "triton":
        from ntalker_ns.rendering import triton_marching

        return RaySamples(*triton_marching.march(*arguments))
    return march_torch(*arguments)
