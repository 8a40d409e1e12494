"""Gates and the inverse warp on CUDA."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.ragged import ends_on
from ntalker_ns.kernels.types import FaceState, Gate

BLOCK = 128
"""Samples of a program."""


def accepts_gate(positions: Tensor, *_: Any) -> bool:
    """float32."""
    return positions.dtype == torch.float32


accepts_inverse_warp = accepts_gate


def gate(positions: Float[Tensor, "samples 3"], balls: Gate) -> Float[Tensor, "samples 1"]:
    """See `kernels.reference.warp.gate`."""
    return _Gate.apply(positions, balls.centers_on(positions.device), balls.inner, balls.outer)  # type: ignore[no-any-return]


def inverse_warp(
    positions: Float[Tensor, "samples 3"], speech: Float[Tensor, "samples 1"], counts: list[int], face: FaceState
) -> tuple[Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
    """See `kernels.reference.warp.inverse_warp`."""
    positions, speech = positions.detach().float().contiguous(), speech.detach().float().contiguous()
    shift, closed = torch.empty_like(positions), torch.empty_like(speech)
    most = max(counts, default=0)
    if most:
        brow, eye, lips, brows, lids, openness = face
        centers = (each.centers_on(positions.device) for each in (brow, eye))
        tensors = (*centers, *lips[:2], *brows[:2], lids, openness)
        with torch.cuda.device_of(positions):
            inverse_warp_samples[(triton.cdiv(most, BLOCK), len(counts))](
                positions,
                speech,
                ends_on(counts, positions.device),
                *(each.float().contiguous() for each in tensors),
                *(number for balls in (brow, eye) for number in (balls.outer, 1.0 / (balls.outer - balls.inner))),
                lips.softness**2,
                brows.softness**2,
                shift,
                closed,
                BROW_BALLS=len(brow.centers),
                EYE_BALLS=len(eye.centers),
                LIPS=lips.positions.shape[1],
                BROWS=brows.positions.shape[1],
                COLUMNS=lids.shape[1],
                BLOCK=BLOCK,
                num_warps=4,
                enable_fp_fusion=True,
            )
    return shift, closed


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, centers: Tensor, inner: float, outer: float) -> Tensor:
        positions = positions.float().contiguous()
        sloped = ctx.needs_input_grad[0]
        values = positions.new_empty(len(positions), 1)
        slopes = torch.empty_like(positions if sloped else positions[:0])
        if len(positions):
            with torch.cuda.device_of(positions):
                gate_samples[(triton.cdiv(len(positions), BLOCK),)](
                    positions,
                    centers,
                    values,
                    slopes,
                    len(positions),
                    outer,
                    1.0 / (outer - inner),
                    BALLS=len(centers),
                    SLOPED=sloped,
                    BLOCK=BLOCK,
                    num_warps=4,
                    enable_fp_fusion=True,
                )
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradient * slopes, None, None, None


@triton.jit
def _nearest(x, y, z, centers, BALLS: tl.constexpr):
    """The squared distance to the nearest centre, and the point relative to it."""
    dx, dy, dz = x - tl.load(centers), y - tl.load(centers + 1), z - tl.load(centers + 2)
    nearest = dx * dx + dy * dy + dz * dz
    for ball in range(1, BALLS):
        to_x, to_y, to_z = (
            x - tl.load(centers + 3 * ball),
            y - tl.load(centers + 3 * ball + 1),
            z - tl.load(centers + 3 * ball + 2),
        )
        squared = to_x * to_x + to_y * to_y + to_z * to_z
        closer = squared < nearest
        nearest = tl.where(closer, squared, nearest)
        dx, dy, dz = tl.where(closer, to_x, dx), tl.where(closer, to_y, dy), tl.where(closer, to_z, dz)
    return nearest, dx, dy, dz


@triton.jit
def _rising(distance, outer, rim):
    """0 from the outer radius on, 1 from the inner one inwards."""
    return tl.minimum(tl.maximum((outer - distance) * rim, 0.0), 1.0)


@triton.jit
def _open_at(x, y, z, centers, outer, rim, BALLS: tl.constexpr):
    """A gate's values at points."""
    nearest, _, _, _ = _nearest(x, y, z, centers, BALLS)
    rising = _rising(tl.sqrt(nearest), outer, rim)
    return rising * rising * (3.0 - 2.0 * rising)


@triton.jit(do_not_specialize=["num_samples"])
def gate_samples(
    positions,
    centers,
    values,
    slopes,
    num_samples,
    outer,
    rim,
    BALLS: tl.constexpr,
    SLOPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes a gate at each position, and its gradient where SLOPED."""
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = sample < num_samples
    x = tl.load(positions + 3 * sample, mask=there, other=0)
    y = tl.load(positions + 3 * sample + 1, mask=there, other=0)
    z = tl.load(positions + 3 * sample + 2, mask=there, other=0)
    nearest, dx, dy, dz = _nearest(x, y, z, centers, BALLS)
    distance = tl.sqrt(nearest)
    rising = _rising(distance, outer, rim)
    tl.store(values + sample, rising * rising * (3.0 - 2.0 * rising), mask=there)
    if SLOPED:
        # Between the radii the distance is above 0.
        between = (rising > 0) & (rising < 1)
        slope = tl.where(between, -6.0 * rising * (1.0 - rising) * rim / tl.where(between, distance, 1.0), 0.0)
        tl.store(slopes + 3 * sample, slope * dx, mask=there)
        tl.store(slopes + 3 * sample + 1, slope * dy, mask=there)
        tl.store(slopes + 3 * sample + 2, slope * dz, mask=there)


@triton.jit
def _motion_at(x, z, places, motion, frame, soft, POINTS: tl.constexpr):
    """Mean of a frame's landmarks' motion at points, weighted by 1 / (distance^2 + softness^2)^2."""
    total, sum_x, sum_z = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for point in range(0, POINTS):
        at = 2 * (frame * POINTS + point)
        dx, dz = x - tl.load(places + at), z - tl.load(places + at + 1)
        squared = dx * dx + dz * dz + soft
        weight = 1.0 / (squared * squared)
        total += weight
        sum_x += weight * tl.load(motion + at)
        sum_z += weight * tl.load(motion + at + 1)
    return sum_x / total, sum_z / total


@triton.jit
def _lid_rise_at(x, z, openness, lids, there, COLUMNS: tl.constexpr):
    """See `kernels.reference.warp.lid_rise`."""
    rise = tl.zeros_like(x)
    for eye in range(0, 2):
        curve = lids + eye * COLUMNS * 4
        begin, end = tl.load(curve), tl.load(curve + (COLUMNS - 1) * 4)
        column = (x - begin) / (end - begin) * (COLUMNS - 1)
        beside = there & (column >= 0) & (column <= COLUMNS - 1)
        left = tl.minimum(tl.where(beside, column, 0.0).to(tl.int32), COLUMNS - 2)
        share = column - left
        one, two = curve + 4 * left, curve + 4 * left + 4
        meet, opened, top = (
            tl.load(one + 1, mask=beside, other=0),
            tl.load(one + 2, mask=beside, other=0),
            tl.load(one + 3, mask=beside, other=0),
        )
        meet += share * (tl.load(two + 1, mask=beside, other=0) - meet)
        opened += share * (tl.load(two + 2, mask=beside, other=0) - opened)
        top += share * (tl.load(two + 3, mask=beside, other=0) - top)
        edge = meet + openness * (opened - meet)
        above = beside & (z >= edge) & (z < top)
        rise += tl.where(above, (top - z) * (opened - edge) / tl.where(above, top - edge, 1.0), 0.0)
    return rise


@triton.jit
def inverse_warp_samples(
    positions,
    speech,
    ends,
    brow_centers,
    eye_centers,
    lip_places,
    lip_motion,
    brow_places,
    brow_motion,
    lids,
    openness,
    brow_outer,
    brow_rim,
    eye_outer,
    eye_rim,
    lip_soft,
    brow_soft,
    shift,
    closed,
    BROW_BALLS: tl.constexpr,
    EYE_BALLS: tl.constexpr,
    LIPS: tl.constexpr,
    BROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes shift and closure of a block of one frame's samples.

    Samples of a ray lie side by side, so that most blocks are far from lips, brows or lids, and skip them.
    """
    frame = tl.program_id(1)
    first = tl.load(ends + frame - 1, mask=frame > 0, other=0)
    sample = first + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = sample < tl.load(ends + frame)
    x = tl.load(positions + 3 * sample, mask=there, other=0)
    y = tl.load(positions + 3 * sample + 1, mask=there, other=0)
    z = tl.load(positions + 3 * sample + 2, mask=there, other=0)
    spoken = tl.load(speech + sample, mask=there, other=0)
    raised = tl.where(there, _open_at(x, y, z, brow_centers, brow_outer, brow_rim, BROW_BALLS), 0.0)
    blinked = tl.where(there, _open_at(x, y, z, eye_centers, eye_outer, eye_rim, EYE_BALLS), 0.0)
    open_eyes = tl.load(openness + frame)
    to_x, to_z = tl.zeros_like(x), tl.zeros_like(x)
    if tl.max(spoken, axis=0) > 0:
        motion_x, motion_z = _motion_at(x, z, lip_places, lip_motion, frame, lip_soft, LIPS)
        to_x -= spoken * motion_x
        to_z -= spoken * motion_z
    if tl.max(raised, axis=0) > 0:
        motion_x, motion_z = _motion_at(x, z, brow_places, brow_motion, frame, brow_soft, BROWS)
        to_x -= raised * motion_x
        to_z -= raised * motion_z
    if tl.max(blinked, axis=0) > 0:
        to_z += blinked * _lid_rise_at(x + to_x, z + to_z, open_eyes, lids, there, COLUMNS)
    tl.store(shift + 3 * sample, to_x, mask=there)
    tl.store(shift + 3 * sample + 1, tl.zeros_like(x), mask=there)
    tl.store(shift + 3 * sample + 2, to_z, mask=there)
    tl.store(closed + sample, blinked * (1.0 - open_eyes), mask=there)
