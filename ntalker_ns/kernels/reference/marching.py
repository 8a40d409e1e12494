"""Ray marching: box intersection, samples in occupied cells, and their points."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.types import MIN_DIRECTION, FrameSamples, IncrementalMarch, MarchInput, RaySamples


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Distances at which rays enter and leave a box (slab method); far <= near for rays that miss it; no gradient.

    Args:
        origins: world.
        directions: unit.
        low: the box's least coordinates.
        high: its greatest ones.
    """
    safe = torch.where(directions.abs() < MIN_DIRECTION, torch.full_like(directions, MIN_DIRECTION), directions)
    one, two = (low - origins) / safe, (high - origins) / safe
    near = torch.minimum(one, two).amax(dim=-1).clamp(min=0.0)
    far = torch.maximum(one, two).amin(dim=-1)
    return near, torch.maximum(far, near)


def march(given: MarchInput) -> RaySamples:
    """Uniform steps t_k = near + (k + jitter) step; kept where the middle of the step lies in an occupied cell.

    Args:
        given: the rays.
    """
    origins, directions, near, far, occupied, step, jitter, max_samples = given
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


def incremental_march(given: MarchInput) -> IncrementalMarch:
    """The samples of `march`, a few at a time.

    Args:
        given: the rays.
    """
    return MarchedRays(march(given))


class MarchedRays:
    """Rays that have been marched to their ends at once, see `IncrementalMarch`."""

    def __init__(self, samples: RaySamples) -> None:
        self._starts = samples.starts
        self._first = torch.cumsum(samples.ray_counts, dim=0) - samples.ray_counts
        self.left = samples.ray_counts.clone()

    def next(self, rays: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See `IncrementalMarch.next`."""
        counts = self.left[rays].clamp(max=count)
        ends = torch.cumsum(counts, dim=0)
        numbers = torch.arange(int(ends[-1]) if len(ends) else 0, device=ends.device)
        before = self._first[rays] - ends + counts
        starts = self._starts[numbers + torch.repeat_interleave(before, counts, output_size=len(numbers))]
        self._first.index_add_(0, rays, counts)
        self.left.index_add_(0, rays, -counts)
        return starts, counts


def march_to_capacity(given: MarchInput, frames: int, capacity: int) -> FrameSamples:
    """The samples of `march` in buffers of a fixed size, so that no synchronisation is needed for their number.

    Args:
        given: rays that lie frame after frame, equally many of each.
        frames: how many.
        capacity: samples kept of each frame, the first ones.
    """
    samples = march(given)
    kept, ends = fit(samples.ray_counts, frames, capacity)
    starts, rays = pack(samples, kept, ends, *unused_slots(given, frames * capacity))
    return FrameSamples(starts, rays, kept, ends, [capacity] * frames, max_frame_samples(samples.ray_counts, frames))


def unused_slots(given: MarchInput, slots: int) -> tuple[Float[Tensor, "slots"], Int[Tensor, "slots"]]:
    """Starts and rays of slots without a sample: at the beginnings of different rays, since gradients of many samples
    in one place would contend."""
    rays = torch.arange(slots, device=given.near.device) % len(given.near)
    return given.near[rays], rays


def max_frame_samples(counts: Int[Tensor, "rays"], frames: int) -> Int[Tensor, ""]:
    """Most samples of a frame."""
    return counts.view(frames, -1).sum(dim=1).amax()


def fit(counts: Int[Tensor, "rays"], frames: int, capacity: int) -> tuple[Int[Tensor, "rays"], Int[Tensor, "rays"]]:
    """How many samples of each ray are kept, and the index behind its last one.

    Args:
        counts: samples of each ray; rays lie frame after frame, equally many of each.
        frames: how many.
        capacity: samples kept of each frame.
    """
    ends = counts.view(frames, -1).cumsum(dim=1).clamp(max=capacity)
    kept = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
    first = capacity * torch.arange(frames, device=counts.device)
    return kept.flatten(), (ends + first[:, None]).flatten()


def pack(
    samples: RaySamples, kept: Tensor, ends: Tensor, starts: Tensor, rays: Tensor
) -> tuple[Float[Tensor, "slots"], Int[Tensor, "slots"]]:
    """Puts samples into the slots that `fit` gave them.

    Args:
        samples: of all rays.
        kept: how many of each ray are kept.
        ends: the index behind its last one.
        starts: of slots without a sample.
        rays: of slots without a sample.
    """
    owners, slots = samples.rays, len(starts)
    first = samples.ray_counts.cumsum(dim=0) - samples.ray_counts
    rank = torch.arange(len(owners), device=owners.device) - first[owners]
    # One slot behind all of them takes what is not kept.
    slot = torch.where(rank < kept[owners], (ends - kept)[owners] + rank, slots)
    padded = (torch.nn.functional.pad(each, (0, 1)) for each in (starts, rays))
    starts, rays = (
        each.scatter(0, slot, values)[:slots] for each, values in zip(padded, (samples.starts, owners), strict=True)
    )
    return starts, rays


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
    return (origins[rays] + distances[:, None] * directions[rays]).detach()
