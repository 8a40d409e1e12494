"""Which points of a ray the field is asked for: those in occupied cells, front to back, at most so many."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.encodings.hash_grid import automatic_backend

STILL = 1e-9
"""A component of a unit direction that is smaller than this counts as this: the ray never leaves along its axis."""


class Lattice(NamedTuple):
    """Places along rays at which a field may be asked."""

    origins: Float[Tensor, "rays 3"]
    """World."""
    directions: Float[Tensor, "rays 3"]
    """Unit vectors."""
    near: Float[Tensor, "rays"]
    """Distance at which the lattice begins, world units."""
    far: Float[Tensor, "rays"]
    """Distance that the middles of samples stay below, world units."""
    occupied: Bool[Tensor, "grid grid grid"]
    """Open cells of the box [-1, 1]^3, indexed x, y, z."""
    step: float
    """Length of a sample, world units, above 0."""
    jitter: Float[Tensor, "rays"]
    """Shift of each ray's lattice, in steps, in [0, 1)."""
    max_samples: int
    """Samples kept of a ray at most, the first ones."""


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


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """`intersect_box_torch`, by the fastest implementation for the device (the same numbers); no gradient."""
    backend = automatic_backend(origins.device.type)
    if backend == "triton":
        from ntalker_ns.rendering import triton_marching

        return triton_marching.intersect_box(origins, directions, low, high)
    if backend == "numba":
        from ntalker_ns.rendering import numba_marching

        bounds = (np.broadcast_to(np.asarray(bound, np.float32), 3) for bound in (low, high))
        arrays = (each.detach().numpy() for each in (origins, directions))
        near, far = numba_marching.intersect_box(*arrays, *bounds)
        return torch.from_numpy(near), torch.from_numpy(far)
    return intersect_box_torch(origins, directions, low, high)


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


@record_function("march")
def march(lattice: Lattice) -> RaySamples:
    """`march_torch`, by the fastest implementation for the device (the same samples)."""
    backend = automatic_backend(lattice.origins.device.type)
    if backend == "numba":
        starts, counts = _NumbaWalk(lattice).on(torch.arange(len(lattice.near)), lattice.max_samples)
        return RaySamples(starts, counts)
    if backend == "triton":
        from ntalker_ns.rendering import triton_marching

        return RaySamples(*triton_marching.march(*lattice))
    return march_torch(lattice)


class Walk(Protocol):
    """Rays that are marched a few samples at a time."""

    left: Int[Tensor, "rays"]
    """How many samples each ray may still have; 0 at its end."""

    def on(self, rays: Int[Tensor, "chosen"], most: int) -> tuple[Float[Tensor, "samples"], Int[Tensor, "chosen"]]:
        """Where the next samples of some rays start, ray after ray, and how many each ray has, at most `most`."""
        ...


class WalkMarched:
    """Of rays that have been marched to their ends."""

    def __init__(self, samples: RaySamples) -> None:
        self._starts = samples.starts
        self._place = torch.cumsum(samples.ray_counts, dim=0) - samples.ray_counts
        self.left = samples.ray_counts.clone()

    def on(self, rays: Tensor, most: int) -> tuple[Tensor, Tensor]:
        counts = self.left[rays].clamp(max=most)
        ends = torch.cumsum(counts, dim=0)
        total = torch.arange(int(ends[-1]) if len(ends) else 0, device=ends.device)
        before = self._place[rays] - ends + counts
        starts = self._starts[total + torch.repeat_interleave(before, counts, output_size=len(total))]
        self._place.index_add_(0, rays, counts)
        self.left.index_add_(0, rays, -counts)
        return starts, counts


class _NumbaWalk:
    """Of rays on the CPU."""

    def __init__(self, lattice: Lattice) -> None:
        from ntalker_ns.rendering import numba_marching

        arrays: list[Any] = [each.detach().numpy() if isinstance(each, Tensor) else each for each in lattice]
        self._walk = numba_marching.Walk(*arrays)
        self.left = torch.from_numpy(self._walk.left)

    @record_function("march")
    def on(self, rays: Tensor, most: int) -> tuple[Tensor, Tensor]:
        starts, counts = self._walk.on(rays.numpy(), most)
        return torch.from_numpy(starts), torch.from_numpy(counts)


def walk(lattice: Lattice) -> Walk:
    """The samples of `march` a few at a time: on the CPU, those that nobody asks for are never looked for."""
    if automatic_backend(lattice.origins.device.type) == "numba":
        return _NumbaWalk(lattice)
    return WalkMarched(march(lattice))


def points_along(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    rays: Int[Tensor, "samples"],
    distances: Float[Tensor, "samples"],
) -> Float[Tensor, "samples 3"]:
    """The points at distances along rays; no gradient.

    Args:
        origins: world.
        directions: unit.
        rays: the ray of each point.
        distances: world units.
    """
    if automatic_backend(origins.device.type) == "numba":
        from ntalker_ns.rendering import numba_marching

        arrays = (each.detach().numpy() for each in (origins, directions, rays, distances))
        return torch.from_numpy(numba_marching.points_along(*arrays))
    return (origins[rays] + distances[:, None] * directions[rays]).detach()
