"""Samples of a training step's rays, packed frame by frame; on a GPU without waiting to be told how many there are."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns import async_copies
from ntalker_ns.async_copies import LateNumbers
from ntalker_ns.encodings.hash_grid import automatic_backend
from ntalker_ns.field.segments import sums_per_frame
from ntalker_ns.rendering.marching import Lattice, RaySamples, march

REMEMBERED = 48
"""Steps whose needs are remembered."""

SPARE = 1.125
"""Room over the fullest frame of those steps: what random rays of a frame need differs by a few percent."""

LEAST, MOST = 1.03, 1.25
"""A room stays as it is while it is between so many times what the fullest frame of those steps needed: steps of the
same sizes find the memory of those before them, and can be recorded (`ntalker_ns.recorded_steps`)."""

GRAIN = 1024
"""Rooms are multiples of this, so that memory that was freed fits again."""


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


@dataclass
class _Needs:
    """Of steps with about as many rays."""

    late: LateNumbers = field(default_factory=LateNumbers)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """Mean samples a ray in the fullest frame of a step."""
    size: int = 0
    """Samples that a frame had room for in the last step."""


class Room:
    """How many samples the frames of a step have room for.

    Where the rays of a frame need more, the last ones lose samples, for the step or two until the host knows.
    """

    def __init__(self) -> None:
        # Patches of lips alternate with rays all over the head, and need more.
        self._needs: defaultdict[int, _Needs] = defaultdict(_Needs)

    def of(self, rays: int, most: int) -> int:
        """Samples that a frame has room for.

        Args:
            rays: of the frame.
            most: samples of a ray at most.
        """
        needs = self._needs[rays.bit_length()]
        if not needs.recent:
            return rays * most
        need = max(needs.recent) * rays
        if not LEAST * need <= needs.size <= MOST * need:
            needs.size = math.ceil(SPARE * need / GRAIN) * GRAIN
        return min(needs.size, rays * most)

    def note(self, rays: int, fullest: Int[Tensor, ""]) -> None:
        """Takes what a step needed.

        Args:
            rays: of each frame.
            fullest: samples that the rays of the fullest frame have.
        """
        needs = self._needs[rays.bit_length()]
        known = needs.late.put(fullest / rays)
        if known is not None:
            needs.recent.append(known)


@record_function("march")
def march_frames(lattice: Lattice, counts: list[int], room: int | None = None) -> FrameSamples:
    """The samples of `march`, frame by frame.

    Args:
        lattice: of rays that lie frame after frame.
        counts: rays of each frame; equally many where there is a room.
        room: samples that each frame has room for, on devices whose answer the host would wait for; None: it waits.
    """
    if room is not None and async_copies.host_would_wait(lattice.near):
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
        from ntalker_ns.rendering import triton_marching

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
