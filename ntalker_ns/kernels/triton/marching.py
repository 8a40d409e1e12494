"""Ray marching through an occupancy grid on CUDA: Triton kernels that ask a tile of rays by steps at a time.

Importing this module imports Triton; import it where rays are first marched.
"""

# What a kernel says is compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.kernels.lattice import STILL, Lattice

RAYS = 4
"""Rays of a tile."""
STEPS = 64
"""Steps of a tile: most rays are through after two or three."""
# A fused multiply-add would round a point otherwise than torch does, and put it into another cell.
TILE = {"RAYS": RAYS, "STEPS": STEPS, "num_warps": 2, "enable_fp_fusion": False}
"""How the kernels are launched."""


RAYS_AT_ONCE = 128
"""Rays of a program that meets them with a box."""


def intersect_box(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    low: Float[Tensor, "3"] | float,
    high: Float[Tensor, "3"] | float,
) -> tuple[Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """`kernels.reference.marching.intersect_box_torch` in one pass over the rays, to the last bit; float32."""
    origins, directions = (each.detach().float().contiguous() for each in (origins, directions))
    near, far = (origins.new_empty(len(origins)) for _ in range(2))
    if len(origins):
        low, high = (_bound(each, origins.device) for each in (low, high))
        with torch.cuda.device_of(origins):
            meet_box[(triton.cdiv(len(origins), RAYS_AT_ONCE),)](
                *(origins, directions, low, high, near, far, len(origins), STILL),
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


def march(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, "rays"],
    far: Float[Tensor, "rays"],
    occupied: Bool[Tensor, "grid grid grid"],
    step: float,
    jitter: Float[Tensor, "rays"],
    max_samples: int,
) -> tuple[Float[Tensor, "samples"], Int[Tensor, "rays"]]:
    """Finds the samples of each ray that lie in occupied cells; the same as `march_torch`, to the last bit.

    Rays are walked twice, to count and to write: the number of samples is what memory must be asked for, and the only
    thing that the host waits for.

    For the arguments, float32 and bool, see `ntalker_ns.kernels.lattice.Lattice`.

    Returns:
        Starts (S,) and ends (S,) of the samples, ray after ray and front to back, and samples of each ray (R,) int64.
    """
    lattice = Lattice(origins, directions, near, far, occupied, step, jitter, max_samples)
    counts = count(lattice)
    ends = torch.cumsum(counts, dim=0)
    starts = torch.empty(int(ends[-1]) if len(ends) else 0, dtype=torch.float32, device=near.device)
    write(lattice, counts, ends, starts, torch.empty_like(starts, dtype=torch.int64))
    return starts, counts


def count(lattice: Lattice) -> Int[Tensor, "rays"]:
    """How many samples of each ray lie in occupied cells, at most as many as are kept; the host waits for nothing."""
    counts = torch.zeros(len(lattice.near), dtype=torch.int64, device=lattice.near.device)
    if len(counts):
        with torch.cuda.device_of(counts):
            march_count[_grid(lattice)](*_shared(lattice), counts, lattice.max_samples, **TILE)
    return counts


def write(
    lattice: Lattice,
    counts: Int[Tensor, "rays"],
    ends: Int[Tensor, "rays"],
    starts: Float[Tensor, "samples"],
    owners: Int[Tensor, "samples"],
) -> None:
    """Writes where samples start, and of which rays they are; the host waits for nothing.

    Args:
        lattice: of the rays.
        counts: samples of each ray, at most those of `count`.
        ends: the place behind each ray's last sample.
        starts: written at those places.
        owners: likewise.
    """
    if len(counts):
        with torch.cuda.device_of(counts):
            march_write[_grid(lattice)](*_shared(lattice), counts, ends, starts, owners, **TILE)


def _grid(lattice: Lattice) -> tuple[int]:
    """Tiles of rays."""
    return (triton.cdiv(len(lattice.near), RAYS),)


def _shared(lattice: Lattice) -> tuple[Any, ...]:
    """What both kernels are told first."""
    per_ray = (lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter)
    cells = lattice.occupied.contiguous().view(torch.uint8)
    rays = (each.detach().float().contiguous() for each in per_ray)
    return *rays, cells, len(lattice.near), float(lattice.step), lattice.occupied.shape[0]


@triton.jit(do_not_specialize=["num_rays"])
def meet_box(origins, directions, low, high, nears, fars, num_rays, still, RAYS: tl.constexpr):
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
    """Places of a tile's rays, as columns, and what is known of each; rays that are not there end before they begin."""
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
def _ask(origins, directions, ray, start, far, cells, num_rays, step, grid):
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
        keep = _ask(origins, directions, ray, start, far, cells, num_rays, step, grid)
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
    """Writes the starts of each ray's first samples, as many as `counts` says, and the ray before place `ends[ray]`."""
    ray, near, far, jitter = _load_rays(origins, directions, nears, fars, jitters, num_rays, RAYS)
    count = tl.load(counts + ray, mask=ray < num_rays, other=0).to(tl.int32)
    place = tl.load(ends + ray, mask=ray < num_rays, other=0) - count
    written = tl.zeros([RAYS, 1], tl.int32)
    first = 0
    going = tl.sum(tl.sum(count, axis=1), axis=0)
    while going > 0:
        k = first + tl.arange(0, STEPS)[None, :]
        start = near + (k.to(tl.float32) + jitter) * step
        keep = _ask(origins, directions, ray, start, far, cells, num_rays, step, grid)
        rank = written + tl.cumsum(keep.to(tl.int32), axis=1) - 1
        there = keep & (rank < count)
        tl.store(starts + place + rank, start, mask=there)
        tl.store(owners + place + rank, ray.to(tl.int64) + tl.zeros([RAYS, STEPS], tl.int64), mask=there)
        written += tl.sum(keep.to(tl.int32), axis=1)[:, None]
        first += STEPS
        going = tl.sum(tl.sum((written < count).to(tl.int32), axis=1), axis=0)
