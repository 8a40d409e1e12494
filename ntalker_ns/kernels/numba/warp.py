"""Gates and the inverse warp on the CPU: each in one pass over the samples."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads, njit, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import FASTMATH, KERNEL_LOCK, kernel, lean
from ntalker_ns.kernels.types import FaceState, Gate, Landmarks


class Balls(NamedTuple):
    """A `Gate` as kernels take it."""

    centers: np.ndarray
    outer: np.float32
    per_unit: np.float32


class LandmarkArrays(NamedTuple):
    """`Landmarks` as kernels take them, (frames, points) each."""

    x: np.ndarray
    z: np.ndarray
    motion_x: np.ndarray
    motion_z: np.ndarray
    soft: np.float32
    """The square of the softness."""


class FaceArrays(NamedTuple):
    """A `FaceState` as kernels take it."""

    brow_gate: Balls
    eye_gate: Balls
    lips: LandmarkArrays
    brows: LandmarkArrays
    lids: np.ndarray
    openness: np.ndarray
    """(frames,) of the eyes."""


@lru_cache
def balls(gate: Gate) -> Balls:
    """A gate as kernels take it."""
    return Balls(
        np.array(gate.centers, np.float32), np.float32(gate.outer), np.float32(1.0 / (gate.outer - gate.inner))
    )


def face_arrays(face: FaceState) -> FaceArrays:
    """The frames' faces as kernels take them."""
    return FaceArrays(
        balls(face.brow_gate),
        balls(face.eye_gate),
        _landmark_arrays(face.lips),
        _landmark_arrays(face.brows),
        face.lids.float().numpy(),
        face.openness.float().numpy(),
    )


def _landmark_arrays(marks: Landmarks) -> LandmarkArrays:
    x, z, motion_x, motion_z = (
        np.ascontiguousarray(each.numpy()[..., axis], np.float32) for each in marks[:2] for axis in (0, 1)
    )
    return LandmarkArrays(x, z, motion_x, motion_z, np.float32(marks.softness**2))


def accepts_inverse_warp(positions: Tensor, *_: Any) -> bool:
    """float32."""
    return positions.dtype == torch.float32


def inverse_warp(
    positions: Float[Tensor, "samples 3"], speech: Float[Tensor, "samples 1"], counts: list[int], face: FaceState
) -> tuple[Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
    """See `kernels.reference.warp.inverse_warp`."""
    shift, closed = torch.empty_like(positions), torch.empty_like(speech)
    arrays = (each.detach().numpy() for each in (positions, speech.view(-1)))
    with KERNEL_LOCK:
        ends, outputs = np.cumsum(counts, dtype=np.int64), (shift.numpy(), closed.view(-1).numpy())
        _inverse_warp(*arrays, ends, *face_arrays(face), get_num_threads(), *outputs)
    return shift, closed


accepts_gate = accepts_inverse_warp


def gate(positions: Float[Tensor, "samples 3"], balls: Gate) -> Float[Tensor, "samples 1"]:
    """See `kernels.reference.warp.gate`; float32 or float64."""
    dtype = np.float64 if positions.dtype == torch.float64 else np.float32
    return _Gate.apply(positions, np.array(balls.centers, dtype), balls.inner, balls.outer)  # type: ignore[no-any-return]


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, centers: np.ndarray, inner: float, outer: float) -> Tensor:
        positions = positions.contiguous()
        values = positions.new_empty(len(positions), 1)
        slopes = torch.empty_like(positions if ctx.needs_input_grad[0] else positions[:0])
        with KERNEL_LOCK:
            _gate(positions.detach().numpy(), centers, inner, outer, values.view(-1).numpy(), slopes.numpy())
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradient * slopes, None, None, None


@njit(inline="always")
def nearest_ball(x, y, z, centers):
    """The squared distance of a point to the nearest centre, and which that is."""
    nearest, ball = centers.dtype.type(np.inf), 0
    for c in range(centers.shape[0]):
        dx, dy, dz = x - centers[c, 0], y - centers[c, 1], z - centers[c, 2]
        squared = dx * dx + dy * dy + dz * dz
        if squared < nearest:
            nearest, ball = squared, c
    return nearest, ball


@kernel
def _gate(positions, centers, inner, outer, values, slopes):
    """Writes the gate at each position, and its gradient unless `slopes` is empty."""
    sloped = len(slopes) > 0
    kind = positions.dtype.type
    rim = kind(1.0 / (outer - inner))
    for i in prange(positions.shape[0]):
        nearest, ball = nearest_ball(positions[i, 0], positions[i, 1], positions[i, 2], centers)
        distance = np.sqrt(nearest)
        x = min(max((kind(outer) - distance) * rim, kind(0)), kind(1))
        values[i] = x * x * (3 - 2 * x)
        if sloped:
            slope = _slope(x, rim, distance)
            for axis in range(3):
                slopes[i, axis] = slope * (positions[i, axis] - centers[ball, axis])


@njit(inline="always")
def open_at(x, y, z, balls):
    """A gate at a point."""
    nearest, _ = nearest_ball(x, y, z, balls.centers)
    if nearest >= balls.outer * balls.outer:
        return np.float32(0)
    rising = min(max((balls.outer - np.sqrt(nearest)) * balls.per_unit, np.float32(0)), np.float32(1))
    return rising * rising * (np.float32(3) - np.float32(2) * rising)


@njit(inline="always")
def _slope(rising, per_unit, distance):
    """The smoothstep's derivative over the distance to the centre."""
    # Between the radii the distance is above 0.
    return -6 * rising * (1 - rising) * per_unit / distance if 0 < rising < 1 else 0.0


@njit(inline="always")
def gate_slope(x, y, z, balls):
    """A factor and a ball: a gate's gradient at a point is the factor times the point relative to the ball's centre."""
    nearest, ball = nearest_ball(x, y, z, balls.centers)
    distance = np.sqrt(nearest)
    return _slope((balls.outer - distance) * balls.per_unit, balls.per_unit, distance), ball


@njit(fastmath=FASTMATH, inline="always")
def _motion_at(px, pz, marks, frame):
    """Mean of the landmarks' motion at a point, weighted by 1 / (distance^2 + softness^2)^2.

    Inlined: by itself the compiler does not vectorise the loop.
    """
    total, sum_x, sum_z = np.float32(0), np.float32(0), np.float32(0)
    for j in range(marks.x.shape[1]):
        dx, dz = px - marks.x[frame, j], pz - marks.z[frame, j]
        squared = dx * dx + dz * dz + marks.soft
        weight = np.float32(1) / (squared * squared)
        total += weight
        sum_x += weight * marks.motion_x[frame, j]
        sum_z += weight * marks.motion_z[frame, j]
    return sum_x / total, sum_z / total


@lean
def _lid_rise_at(x, z, openness, lids):
    """See `kernels.reference.warp.lid_rise`."""
    last = lids.shape[1] - 1
    for eye in range(lids.shape[0]):
        begin, end = lids[eye, 0, 0], lids[eye, last, 0]
        column = (x - begin) / (end - begin) * np.float32(last)
        if not 0 <= column <= last:  # true for NaN as well
            continue
        left = min(int(column), last - 1)
        share = column - np.float32(left)
        one, two = lids[eye, left], lids[eye, left + 1]
        top = one[3] + share * (two[3] - one[3])
        opened = one[2] + share * (two[2] - one[2])
        meet = one[1] + share * (two[1] - one[1])
        edge = meet + openness * (opened - meet)
        if edge <= z < top:
            return (top - z) * (opened - edge) / (top - edge)
    return np.float32(0)


@njit(inline="always")
def canonical_at(x, y, z, speech, frame, face):
    """The x and z of a point of a frame in canonical space, and how far eyes are closed there."""
    zero = np.float32(0)
    raised, blinked, openness = open_at(x, y, z, face.brow_gate), open_at(x, y, z, face.eye_gate), face.openness[frame]
    lip_x, lip_z, brow_x, brow_z = zero, zero, zero, zero
    if speech > 0:
        lip_x, lip_z = _motion_at(x, z, face.lips, frame)
    if raised > 0:
        brow_x, brow_z = _motion_at(x, z, face.brows, frame)
    x, z = x - speech * lip_x - raised * brow_x, z - speech * lip_z - raised * brow_z
    if blinked > 0:
        z += blinked * _lid_rise_at(x, z, openness, face.lids)
    return x, z, blinked * (np.float32(1) - openness)


@kernel
def _inverse_warp(positions, speech, ends, brow_gate, eye_gate, lips, brows, lids, openness, threads, shift, closed):
    """Writes the shift to canonical space, and how far eyes are closed."""
    samples = positions.shape[0]
    for thread in prange(threads):
        # Parallel loops accept no nested tuples from outside.
        face = FaceArrays(brow_gate, eye_gate, lips, brows, lids, openness)
        frame = 0
        for i in range(samples * thread // threads, samples * (thread + 1) // threads):
            while i >= ends[frame]:
                frame += 1
            x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
            to_x, to_z, closed[i] = canonical_at(x, y, z, speech[i], frame, face)
            shift[i, 0], shift[i, 1], shift[i, 2] = to_x - x, np.float32(0), to_z - z
