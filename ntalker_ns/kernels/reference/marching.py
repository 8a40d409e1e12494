"""TODO ntalker_ns.kernels.reference.marching."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.lattice import STILL, Lattice


@dataclass
class RaySamples:
    """Samples of many rays, ray after ray."""

    starts: Float[Tensor, "samples"]
    """Distance from the ray's origin to where the sample begins, world units."""
    ray_counts: Int[Tensor, "rays"]

    @property
    def rays(self) -> Int[Tensor, "samples"]:
        """The ray of each sample; the host does not wait for the device."""
        return torch.repeat_interleave(self.ray_counts, output_size=len(self.starts))


def intersect_box_torch(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Where rays enter and leave a box (slab method); far <= near for rays that miss it.

    Args:
        origins: world.
        directions: unit.
        low: the box's least coordinates.
        high: its greatest ones.
    """
    safe = torch.where(directions.abs() < STILL, torch.full_like(directions, STILL), directions)
    one, two = (low - origins) / safe, (high - origins) / safe
    near = torch.minimum(one, two).amax(dim=-1).clamp(min=0.0)
    far = torch.maximum(one, two).amin(dim=-1)
    return near, torch.maximum(far, near)


def march_torch(lattice: Lattice) -> RaySamples:
    """Uniform steps t_k = near + (k + jitter) step; kept where the middle of the step lies in an occupied cell.

    Args:
        lattice: see `Lattice`.
    """
    origins, directions, near, far, occupied, step, jitter, max_samples = lattice
    grid = occupied.shape[0]
    numbers = torch.arange(int((far - near).max() / step) + 1 if len(near) else 0, device=near.device)
    starts = near[:, None] + (numbers + jitter[:, None]) * step
    middles = starts + 0.5 * step
    points = origins[:, None, :] + middles[..., None] * directions[:, None, :]
    cells = ((points + 1.0) * (0.5 * grid)).floor().long()
    inside = ((cells >= 0) & (cells < grid)).all(dim=-1) & (middles < far[:, None])
    cells = cells.clamp(0, grid - 1)
    keep = inside & occupied[cells[..., 0], cells[..., 1], cells[..., 2]]
    keep &= torch.cumsum(keep, dim=1) <= max_samples
    return RaySamples(starts=starts[keep], ray_counts=keep.sum(dim=1))
