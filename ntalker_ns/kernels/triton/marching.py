"""Ray marching through an occupancy grid on CUDA: a program tests a tile of rays by steps at a time."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.reference.marching import MarchedRays, fit, max_frame_samples, unused_slots
from ntalker_ns.kernels.types import MIN_DIRECTION, FrameSamples, IncrementalMarch, MarchInput, RaySamples

RAYS = 4
"""Rays of a tile."""
STEPS = 64
"""Steps of a tile: most rays are through after two or three."""
# A fused multiply-add would round a point otherwise than torch does, and put it into another cell.
TILE = {"RAYS": RAYS, "STEPS": STEPS, "num_warps": 2, "enable_fp_fusion": False}
"""How the kernels are launched."""


RAYS_AT_ONCE = 128
"""Rays of a program that intersects them with a box."""


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float = -1.0,
    high: Float[Tensor, "3"] | float = 1.0,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """See `kernels.reference.marching.intersect_box`; the same to the last bit, computed in float32."""
    origins, directions = (each.detach().float().contiguous() for each in (origins, directions))
    near, far = (origins.new_empty(len(origins)) for _ in range(2))
    if len(origins):
        low, high = (_bound(each, origins.device) for each in (low, high))
        with torch.cuda.device_of(origins):
            intersect_boxes[(triton.cdiv(len(origins), RAYS_AT_ONCE),)](
                *(origins, directions, low, high, near, far, len(origins), MIN_DIRECTION),
                RAYS=RAYS_AT_ONCE,
                num_warps=4,
                enable_fp_fusion=False,
            )
    return near, far


def _bound(bound: Tensor | float, device: torch.device) -> Float[Tensor, "3"]:
    """A corner of a box where rays are."""
    return bound.float().contiguous() if isinstance(bound, Tensor) else _cube(bound, device)


@lru_cache
def _cube(bound: float, device: torch.device) -> Float[Tensor, "3"]:
    return torch.full((3,), bound, device=device)


def march(given: MarchInput) -> RaySamples:
    """See `kernels.reference.marching.march`; the same samples to the last bit.

    Rays are marched twice, to count and to write: the number of samples, which memory is allocated for, is the only
    synchronisation.
    """
    counts = count(given)
    ends = torch.cumsum(counts, dim=0)
    starts = torch.empty(int(ends[-1]) if len(ends) else 0, dtype=torch.float32, device=given.near.device)
    write(given, counts, ends, starts, torch.empty_like(starts, dtype=torch.int64))
    return RaySamples(starts, counts)


def incremental_march(given: MarchInput) -> IncrementalMarch:
    """See `kernels.reference.marching.incremental_march`."""
    return MarchedRays(march(given))


def march_to_capacity(given: MarchInput, frames: int, capacity: int) -> FrameSamples:
    """See `kernels.reference.marching.march_to_capacity`; without synchronisation."""
    starts, rays = unused_slots(given, frames * capacity)
    counts = count(given)
    kept, ends = fit(counts, frames, capacity)
    write(given, kept, ends, starts, rays)
    return FrameSamples(starts, rays, kept, ends, [capacity] * frames, max_frame_samples(counts, frames))


def count(given: MarchInput) -> Int[Tensor, "rays"]:
    """How many samples each ray has, at most `max_samples`; without synchronisation."""
    counts = torch.zeros(len(given.near), dtype=torch.int64, device=given.near.device)
    if len(counts):
        with torch.cuda.device_of(counts):
            march_count[_grid(given)](*_shared(given), counts, given.max_samples, **TILE)
    return counts


def write(
    given: MarchInput,
    counts: Int[Tensor, "rays"],
    ends: Int[Tensor, "rays"],
    starts: Float[Tensor, "samples"],
    rays: Int[Tensor, "samples"],
) -> None:
    """Writes where samples start, and of which rays they are; without synchronisation.

    Args:
        given: the rays.
        counts: samples of each ray, at most those of `count`.
        ends: index behind each ray's last sample.
        starts: written before these indices.
        rays: written before these indices.
    """
    if len(counts):
        with torch.cuda.device_of(counts):
            march_write[_grid(given)](*_shared(given), counts, ends, starts, rays, **TILE)


def _grid(given: MarchInput) -> tuple[int]:
    """Tiles of rays."""
    return (triton.cdiv(len(given.near), RAYS),)


def _shared(given: MarchInput) -> tuple[Any, ...]:
    """The first arguments of both kernels."""
    per_ray = (given.origins, given.directions, given.near, given.far, given.jitter)
    cells = given.occupied.contiguous().view(torch.uint8)
    rays = (each.detach().float().contiguous() for each in per_ray)
    return *rays, cells, len(given.near), float(given.step), given.occupied.shape[0]


@triton.jit(do_not_specialize=["num_rays"])
def intersect_boxes(origins, directions, low, high, nears, fars, num_rays, still, RAYS: tl.constexpr):
    """Writes where rays enter and leave a box (slab method)."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    there = ray < num_rays
    near = tl.zeros([RAYS], tl.float32)
    far = tl.full([RAYS], float("inf"), tl.float32)
    for axis in tl.static_range(3):
        origin = tl.load(origins + 3 * ray + axis, mask=there, other=0)
        direction = tl.load(directions + 3 * ray + axis, mask=there, other=1)
        direction = tl.where(tl.abs(direction) < still, still, direction)
        one = tl.div_rn(tl.load(low + axis) - origin, direction)
        two = tl.div_rn(tl.load(high + axis) - origin, direction)
        near = tl.maximum(near, tl.minimum(one, two))
        far = tl.minimum(far, tl.maximum(one, two))
    tl.store(nears + ray, near, mask=there)
    tl.store(fars + ray, tl.maximum(far, near), mask=there)


@triton.jit
def _load_rays(origins, directions, nears, fars, jitters, num_rays, RAYS: tl.constexpr):
    """Indices, near, far and jitter of a tile's rays, as columns; missing rays end before they begin."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    there = ray < num_rays
    near = tl.load(nears + ray, mask=there, other=0)
    far = tl.load(fars + ray, mask=there, other=-1)
    jitter = tl.load(jitters + ray, mask=there, other=0)
    return ray, near, far, jitter


@triton.jit
def _cell(origins, directions, ray, middle, num_rays, per_unit, axis: tl.constexpr):
    """The cell of points of rays along one axis, as a whole number in floating point."""
    origin = tl.load(origins + 3 * ray + axis, mask=ray < num_rays, other=0)
    direction = tl.load(directions + 3 * ray + axis, mask=ray < num_rays, other=0)
    return tl.floor((origin + middle * direction + 1.0) * per_unit)


@triton.jit
def _occupied(origins, directions, ray, start, far, cells, num_rays, step, grid):
    """Which samples lie in open cells."""
    middle = start + 0.5 * step
    per_unit = 0.5 * grid
    x = _cell(origins, directions, ray, middle, num_rays, per_unit, 0)
    y = _cell(origins, directions, ray, middle, num_rays, per_unit, 1)
    z = _cell(origins, directions, ray, middle, num_rays, per_unit, 2)
    inside = (middle < far) & (x >= 0) & (x < grid) & (y >= 0) & (y < grid) & (z >= 0) & (z < grid)
    x = tl.where(inside, x, 0).to(tl.int32)
    y = tl.where(inside, y, 0).to(tl.int32)
    z = tl.where(inside, z, 0).to(tl.int32)
    return inside & (tl.load(cells + (x * grid + y) * grid + z, mask=inside, other=0) != 0)


@triton.jit(do_not_specialize=["num_rays", "max_samples"])
def march_count(
    origins,
    directions,
    nears,
    fars,
    jitters,
    cells,
    num_rays,
    step,
    grid,
    counts,
    max_samples,
    RAYS: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Counts each ray's samples."""
    ray, near, far, jitter = _load_rays(origins, directions, nears, fars, jitters, num_rays, RAYS)
    count = tl.zeros([RAYS, 1], tl.int32)
    first = 0
    going = 1
    while going > 0:
        k = first + tl.arange(0, STEPS)[None, :]
        start = near + (k.to(tl.float32) + jitter) * step
        keep = _occupied(origins, directions, ray, start, far, cells, num_rays, step, grid)
        count = tl.minimum(count + tl.sum(keep.to(tl.int32), axis=1)[:, None], max_samples)
        first += STEPS
        next_middle = near + (first.to(tl.float32) + jitter) * step + 0.5 * step
        unfinished = (next_middle < far) & (count < max_samples)
        going = tl.sum(tl.sum(unfinished.to(tl.int32), axis=1), axis=0)
    tl.store(counts + ray, count.to(tl.int64), mask=ray < num_rays)


@triton.jit(do_not_specialize=["num_rays"])
def march_write(
    origins,
    directions,
    nears,
    fars,
    jitters,
    cells,
    num_rays,
    step,
    grid,
    counts,
    ends,
    starts,
    owners,
    RAYS: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Writes the starts of each ray's first samples, `counts` of them, and the ray before index `ends[ray]`."""
    ray, near, far, jitter = _load_rays(origins, directions, nears, fars, jitters, num_rays, RAYS)
    count = tl.load(counts + ray, mask=ray < num_rays, other=0).to(tl.int32)
    place = tl.load(ends + ray, mask=ray < num_rays, other=0) - count
    written = tl.zeros([RAYS, 1], tl.int32)
    first = 0
    going = tl.sum(tl.sum(count, axis=1), axis=0)
    while going > 0:
        k = first + tl.arange(0, STEPS)[None, :]
        start = near + (k.to(tl.float32) + jitter) * step
        keep = _occupied(origins, directions, ray, start, far, cells, num_rays, step, grid)
        rank = written + tl.cumsum(keep.to(tl.int32), axis=1) - 1
        there = keep & (rank < count)
        tl.store(starts + place + rank, start, mask=there)
        tl.store(owners + place + rank, ray.to(tl.int64) + tl.zeros([RAYS, STEPS], tl.int64), mask=there)
        written += tl.sum(keep.to(tl.int32), axis=1)[:, None]
        first += STEPS
        going = tl.sum(tl.sum((written < count).to(tl.int32), axis=1), axis=0)
