"""Which points of a ray the field is asked for: those in occupied cells, front to back, at most so many."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.lattice import Lattice
from ntalker_ns.kernels.reference.marching import RaySamples, intersect_box_torch, march_torch


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """`intersect_box_torch`, by the fastest implementation for the device (the same numbers); no gradient."""
    backend = automatic_backend(origins.device.type)
    if backend == "triton":
        from ntalker_ns.kernels.triton import marching as triton_marching

        return triton_marching.intersect_box(origins, directions, low, high)
    if backend == "numba":
        from ntalker_ns.kernels.numba import marching as numba_marching

        bounds = (np.broadcast_to(np.asarray(bound, np.float32), 3) for bound in (low, high))
        arrays = (each.detach().numpy() for each in (origins, directions))
        near, far = numba_marching.intersect_box(*arrays, *bounds)
        return torch.from_numpy(near), torch.from_numpy(far)
    return intersect_box_torch(origins, directions, low, high)


@record_function("march")
def march(lattice: Lattice) -> RaySamples:
    """`march_torch`, by the fastest implementation for the device (the same samples)."""
    backend = automatic_backend(lattice.origins.device.type)
    if backend == "numba":
        starts, counts = _NumbaWalk(lattice).on(torch.arange(len(lattice.near)), lattice.max_samples)
        return RaySamples(starts, counts)
    if backend == "triton":
        from ntalker_ns.kernels.triton import marching as triton_marching

        return RaySamples(*triton_marching.march(*lattice))
    return march_torch(lattice)


@runtime_checkable
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
        from ntalker_ns.kernels.numba import marching as numba_marching

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
        from ntalker_ns.kernels.numba import marching as numba_marching

        arrays = (each.detach().numpy() for each in (origins, directions, rays, distances))
        return torch.from_numpy(numba_marching.points_along(*arrays))
    return (origins[rays] + distances[:, None] * directions[rays]).detach()
