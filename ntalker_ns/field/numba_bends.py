"""Gates, the bending along landmarks and the folding of lids on the CPU: each in one pass over the samples, with
nothing written in between.

Importing this module imports numba; import it where samples are first gated or bent.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from ntalker_ns.encodings.numba_common import FASTMATH, KERNEL_LOCK, kernel


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
            # Between the radii the distance is above 0.
            slope = -6 * x * (1 - x) * rim / distance if 0 < x < 1 else kind(0)
            for axis in range(3):
                slopes[i, axis] = slope * (positions[i, axis] - centers[ball, axis])


def landmark_motion(
    points: Float[np.ndarray, "samples 2"],
    places: Float[np.ndarray, "landmarks 2"],
    motion: Float[np.ndarray, "landmarks 2"],
    softness: float,
) -> Float[np.ndarray, "samples 2"]:
    """Mean of the landmarks' motion at points, weighted by 1 / (distance^2 + softness^2)^2 (see `LandmarkWarp`).

    Args:
        points: x, z of the samples, world units, float32.
        places: x, z of the landmarks in the frame, world units.
        motion: of the landmarks from their mean places, world units.
        softness: world units.
    """
    moved = np.empty((len(points), 2), np.float32)
    x, z, motion_x, motion_z = (np.ascontiguousarray(column, np.float32) for column in (*places.T, *motion.T))
    with KERNEL_LOCK:
        _landmark_motion(np.ascontiguousarray(points), x, z, motion_x, motion_z, np.float32(softness**2), moved)
    return moved


@njit(fastmath=FASTMATH)
def motion_at(px, pz, x, z, motion_x, motion_z, soft):
    """The weighted mean at a point."""
    total, sum_x, sum_z = np.float32(0), np.float32(0), np.float32(0)
    for j in range(x.shape[0]):
        dx, dz = px - x[j], pz - z[j]
        squared = dx * dx + dz * dz + soft
        weight = np.float32(1) / (squared * squared)
        total += weight
        sum_x += weight * motion_x[j]
        sum_z += weight * motion_z[j]
    return sum_x / total, sum_z / total


@kernel
def _landmark_motion(points, x, z, motion_x, motion_z, soft, moved):
    """Writes the weighted mean at each point."""
    for i in prange(points.shape[0]):
        moved[i, 0], moved[i, 1] = motion_at(points[i, 0], points[i, 1], x, z, motion_x, motion_z, soft)


def lid_rise(
    positions: Float[np.ndarray, "samples 3"],
    openness: Float[np.ndarray, "samples"],
    lids: Float[np.ndarray, "2 columns 4"],
) -> Float[np.ndarray, "samples"]:
    """How far above each position its place in the open-eyed face is (see `LidFold`).

    Args:
        positions: world, float32.
        openness: of the eyes, float32.
        lids: float32.
    """
    rise = np.empty(len(positions), np.float32)
    with KERNEL_LOCK:
        _lid_rise(np.ascontiguousarray(positions), np.ascontiguousarray(openness), lids, rise)
    return rise


@njit(fastmath=FASTMATH)
def lid_rise_at(x, z, openness, lids):
    """The same at a point."""
    last = lids.shape[1] - 1
    for eye in range(lids.shape[0]):
        begin, end = lids[eye, 0, 0], lids[eye, last, 0]
        column = (x - begin) / (end - begin) * np.float32(last)
        if column < 0 or column > last:
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


@kernel
def _lid_rise(positions, openness, lids, rise):
    """Writes the rise of each position."""
    for i in prange(positions.shape[0]):
        rise[i] = lid_rise_at(positions[i, 0], positions[i, 2], openness[i], lids)
