"""Samples of a training step's rays, packed frame by frame; on a GPU without waiting to be told how many there are."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.field.ragged import sums_per_frame
from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.lattice import Lattice
from ntalker_ns.kernels.reference.marching import RaySamples
from ntalker_ns.rendering.marching import march
from ntalker_ns.training import transfers


class FrameSamples(NamedTuple):
    """Samples of rays that lie frame after frame. A frame may have room for more than its rays have."""

    starts: Float[Tensor, "samples"]
    """Distance from the ray's origin to where each sample begins, world units; where room is left, to the box."""
    rays: Int[Tensor, "samples"]
    """The ray of each sample; where room is left, any."""
    ray_counts: Int[Tensor, "rays"]
    """Samples of each ray."""
    ray_ends: Int[Tensor, "rays"]
    """The place behind each ray's last sample."""
    frame_counts: list[int]
    """Samples of each frame, the room that is left included."""
    fullest: Int[Tensor, ""] | None
    """Samples that the rays of the fullest frame have, whether there is room for them or not; None where frames have
    room for exactly theirs."""


@record_function("march")
def march_frames(lattice: Lattice, counts: list[int], room: int | None = None) -> FrameSamples:
    """The samples of `march`, frame by frame.

    Args:
        lattice: of rays that lie frame after frame.
        counts: rays of each frame; equally many where there is a room.
        room: samples that each frame has room for, on devices whose answer the host would wait for; None: it waits.
    """
    if room is not None and transfers.would_synchronize(lattice.near):
        return _march_into(lattice, len(counts), room)
    samples = march(lattice)
    ends = samples.ray_counts.cumsum(dim=0)
    of_frames = sums_per_frame(samples.ray_counts, counts)
    return FrameSamples(samples.starts, samples.rays, samples.ray_counts, ends, of_frames, fullest=None)


def _march_into(lattice: Lattice, frames: int, size: int) -> FrameSamples:
    """Samples of frames that have room for equally many."""
    # Where room is left, places that differ: gradients of many samples in one place wait for each other.
    owners = torch.arange(frames * size, device=lattice.near.device) % len(lattice.near)
    starts = lattice.near[owners]
    if automatic_backend(lattice.near.device.type) == "triton":
        from ntalker_ns.kernels.triton import marching as triton_marching

        counts = triton_marching.count(lattice)
        kept, ends = fit(counts, frames, size)
        triton_marching.write(lattice, kept, ends, starts, owners)
    else:
        samples = march(lattice)
        counts = samples.ray_counts
        kept, ends = fit(counts, frames, size)
        starts, owners = pack(samples, kept, ends, starts, owners)
    fullest = counts.view(frames, -1).sum(dim=1).amax()
    return FrameSamples(starts, owners, kept, ends, [size] * frames, fullest)


def fit(counts: Int[Tensor, "rays"], frames: int, size: int) -> tuple[Int[Tensor, "rays"], Int[Tensor, "rays"]]:
    """How many samples of each ray there is room for, and the place behind its last one.

    Args:
        counts: samples of each ray; rays lie frame after frame, equally many of each.
        frames: how many.
        size: samples that each frame has room for.
    """
    ends = counts.view(frames, -1).cumsum(dim=1).clamp(max=size)
    kept = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
    first = size * torch.arange(frames, device=counts.device)
    return kept.flatten(), (ends + first[:, None]).flatten()


def pack(
    samples: RaySamples, kept: Tensor, ends: Tensor, starts: Tensor, owners: Tensor
) -> tuple[Float[Tensor, "samples"], Int[Tensor, "samples"]]:
    """Puts samples where there is room for them, as Triton's kernels do by themselves.

    Args:
        samples: of all rays.
        kept: how many of each ray there is room for.
        ends: the place behind its last one.
        starts: where samples begin, as it is where none is put.
        owners: the rays of samples, likewise.
    """
    rays, room = samples.rays, len(starts)
    first = samples.ray_counts.cumsum(dim=0) - samples.ray_counts
    rank = torch.arange(len(rays), device=rays.device) - first[rays]
    # One place behind all of them takes what there is no room for.
    place = torch.where(rank < kept[rays], (ends - kept)[rays] + rank, room)
    padded = (torch.nn.functional.pad(each, (0, 1)) for each in (starts, owners))
    starts, owners = (
        each.scatter(0, place, values)[:room] for each, values in zip(padded, (samples.starts, rays), strict=True)
    )
    return starts, owners
