"""Gates, and the bending along landmarks with the folding of lids, on the CPU: each in one pass over the samples.

Importing this module imports numba; import it where samples are first gated or bent.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads, njit, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import FASTMATH, KERNEL_LOCK, kernel, lean

if TYPE_CHECKING:
    from ntalker_ns.kernels.face import Face
    from ntalker_ns.kernels.face_state import Gate


class Balls(NamedTuple):
    """A gate, as kernels take it."""

    centers: np.ndarray
    outer: np.float32
    per_unit: np.float32


class LandmarkArrays(NamedTuple):
    """Where landmarks of a part of the face are in frames and how they have moved, (frames, landmarks) each."""

    x: np.ndarray
    z: np.ndarray
    motion_x: np.ndarray
    motion_z: np.ndarray
    soft: np.float32
    """The square of `LandmarkWarp.softness`."""


class FaceArrays(NamedTuple):
    """A `Face`, as kernels take it."""

    brow_gate: Balls
    eye_gate: Balls
    lips: LandmarkArrays
    brows: LandmarkArrays
    lids: np.ndarray
    """See `LidFold`."""
    openness: np.ndarray
    """(frames,) of the eyes."""


@lru_cache
def balls(gate: "Gate") -> Balls:
    """A gate, as kernels take it."""
    return Balls(
        np.array(gate.centers, np.float32), np.float32(gate.outer), np.float32(1.0 / (gate.outer - gate.inner))
    )


def face_arrays(face: "Face") -> FaceArrays:
    """A face, as kernels take it; its tensors are on the host."""
    return FaceArrays(
        balls(face.brow_gate),
        balls(face.eye_gate),
        landmarks(*face.lips),
        landmarks(*face.brows),
        face.lids.numpy(),
        face.openness.float().numpy(),
    )


def landmarks(places: Tensor, motion: Tensor, softness: float) -> LandmarkArrays:
    """What `LandmarkWarp.landmarks` says of frames, (frames, points, 2) each."""
    x, z, motion_x, motion_z = (
        np.ascontiguousarray(each.numpy()[..., axis], np.float32) for each in (places, motion) for axis in (0, 1)
    )
    return LandmarkArrays(x, z, motion_x, motion_z, np.float32(softness**2))


def calm(
    positions: Float[Tensor, "samples 3"], speech: Float[Tensor, "samples 1"], counts: list[int], face: FaceArrays
) -> tuple[Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
    """What `TalkerField` says of how positions are brought to the mean face with open eyes, and where lids are closed.

    Args:
        positions: world, float32, grouped by frame; no gradient.
        speech: the speech gate there.
        counts: samples of each frame.
        face: of the frames.

    Returns:
        The shift in world units, and how far eyes are closed there, 0 to 1.
    """
    shift, closed = torch.empty_like(positions), torch.empty_like(speech)
    arrays = (each.detach().numpy() for each in (positions, speech.view(-1)))
    with KERNEL_LOCK:
        _calm(
            *arrays, np.cumsum(counts, dtype=np.int64), *face, get_num_threads(), shift.numpy(), closed.view(-1).numpy()
        )
    return shift, closed


def gate(
    positions: Float[Tensor, "samples 3"], centers: Float[np.ndarray, "balls 3"], inner: float, outer: float
) -> Float[Tensor, "samples 1"]:
    """The smoothstep of `Gate`, differentiable in the positions.

    Args:
        positions: world, float32 or float64.
        centers: of the balls, in the positions' type.
        inner: radius within which the gate is 1.
        outer: radius beyond which it is 0.
    """
    return _Gate.apply(positions, centers, inner, outer)  # type: ignore[no-any-return]


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
    """Writes the gate at each position, and its gradient where there is room for it."""
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
    """The smoothstep's derivative, over the distance to the centre: times the way from there, a gate's gradient."""
    # Between the radii the distance is above 0.
    return -6 * rising * (1 - rising) * per_unit / distance if 0 < rising < 1 else 0.0


@njit(inline="always")
def gate_slope(x, y, z, balls):
    """A number and a ball: a gate's gradient at a point is the number times the way there from the ball's centre."""
    nearest, ball = nearest_ball(x, y, z, balls.centers)
    distance = np.sqrt(nearest)
    return _slope((balls.outer - distance) * balls.per_unit, balls.per_unit, distance), ball


@njit(fastmath=FASTMATH, inline="always")
def _motion_at(px, pz, marks, frame):
    """Mean of the landmarks' motion at a point, weighted by 1 / (distance^2 + softness^2)^2.

    Written into the caller: by itself the compiler does not make vectors of the loop.
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
    """How far above a point its place in the open-eyed face is (see `LidFold`)."""
    last = lids.shape[1] - 1
    for eye in range(lids.shape[0]):
        begin, end = lids[eye, 0, 0], lids[eye, last, 0]
        column = (x - begin) / (end - begin) * np.float32(last)
        if not 0 <= column <= last:  # nor is it where the point is no number
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
def settle_at(x, y, z, speech, frame, face):
    """The x and z of a point of a frame in the mean face with open eyes, and how far eyes are closed there.

    Lips and brows are bent at the frame's own places, and lids fold where the brows then are.
    """
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
def _calm(positions, speech, ends, brow_gate, eye_gate, lips, brows, lids, openness, threads, shift, closed):
    """Writes what `calm` gives."""
    samples = positions.shape[0]
    for thread in prange(threads):
        face = FaceArrays(
            brow_gate, eye_gate, lips, brows, lids, openness
        )  # parallel loops take in no tuples of tuples
        frame = 0
        for i in range(samples * thread // threads, samples * (thread + 1) // threads):
            while i >= ends[frame]:
                frame += 1
            x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
            to_x, to_z, closed[i] = settle_at(x, y, z, speech[i], frame, face)
            shift[i, 0], shift[i, 1], shift[i, 2] = to_x - x, np.float32(0), to_z - z
