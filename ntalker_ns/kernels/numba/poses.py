"""Pose corrections on the CPU: one pass over the samples, forward and backward."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads, prange
from torch import Tensor

from ntalker_ns.kernels.numba.common import KERNEL_LOCK, kernel, lean
from ntalker_ns.kernels.reference.poses import SERIES, SMALL


def correct_poses(
    positions: Float[Tensor, "samples 3"], corrections: Float[Tensor, "frames 6"], counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """See `kernels.reference.poses.correct_poses`."""
    return _Correct.apply(positions, corrections, counts)  # type: ignore[no-any-return]


class _Correct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, corrections: Tensor, counts: list[int]) -> Tensor:
        positions, corrections = positions.contiguous(), corrections.contiguous()
        ctx.save_for_backward(positions, corrections)
        ctx.counts, moved = counts, torch.empty_like(positions)
        arrays = (each.detach().numpy() for each in (positions, corrections))
        with KERNEL_LOCK:
            _correct(*arrays, *_spans(counts), moved.numpy())
        return moved

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        positions, corrections = ctx.saved_tensors
        found = torch.empty_like(corrections)
        arrays = (each.contiguous().detach().numpy() for each in (positions, corrections, gradient))
        with KERNEL_LOCK:
            _add_gradients(*arrays, *_spans(ctx.counts), found.numpy())
        return None, found, None


def _spans(counts: list[int]) -> tuple[np.ndarray, int]:
    """Index behind each frame's samples, and the number of threads."""
    return np.cumsum(counts, dtype=np.int64), get_num_threads()


@kernel
def _correct(positions, corrections, ends, threads, moved):
    """Writes the moved positions."""
    samples, poses = positions.shape[0], np.empty((len(ends), 3, 4), positions.dtype)
    for frame in range(len(ends)):
        _write_pose(corrections[frame], poses[frame])
    for thread in prange(threads):
        _move_some(positions, poses, ends, samples * thread // threads, samples * (thread + 1) // threads, moved)


@lean
def _factors(squared):
    """sin(a) / a, (1 - cos(a)) / a^2 and (a - sin(a)) / a^3 of a squared angle, see `SERIES`."""
    if squared < SMALL:
        one, two, three = SERIES
        powers = squared * squared
        return (
            one[0] + squared * two[0] + powers * three[0],
            one[1] + squared * two[1] + powers * three[1],
            one[2] + squared * two[2] + powers * three[2],
        )
    angle = np.sqrt(squared)
    sine, half = np.sin(angle) / angle, np.sin(0.5 * angle) / angle
    return sine, 2.0 * half * half, (1.0 - sine) / squared


@lean
def _write_pose(correction, pose):
    """Writes R and, behind its columns, t: R = cos(a) I + sin(a) / a [w] + (1 - cos(a)) / a^2 w w^T."""
    x, y, z = np.float64(correction[0]), np.float64(correction[1]), np.float64(correction[2])
    squared = x * x + y * y + z * z
    sine, versine, _ = _factors(squared)
    cosine = 1.0 - versine * squared
    vector, skew = (x, y, z), ((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0))
    for i in range(3):
        for j in range(3):
            pose[i, j] = sine * skew[i][j] + versine * vector[i] * vector[j]
        pose[i, i] += cosine
        pose[i, 3] = correction[3 + i]


@lean
def _move_some(positions, poses, ends, begin, end, moved):
    """Moves the samples from `begin` to `end`."""
    first = 0
    for frame in range(len(ends)):
        to_x, to_y, to_z = _row(poses[frame], 0), _row(poses[frame], 1), _row(poses[frame], 2)
        for i in range(max(begin, first), min(end, ends[frame])):
            x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
            moved[i, 0], moved[i, 1], moved[i, 2] = _at(to_x, x, y, z), _at(to_y, x, y, z), _at(to_z, x, y, z)
        first = ends[frame]


@lean
def _row(pose, axis):
    """A row of R and t as scalars, which stay in registers."""
    return pose[axis, 0], pose[axis, 1], pose[axis, 2], pose[axis, 3]


@lean
def _at(row, x, y, z):
    return row[0] * x + row[1] * y + row[2] * z + row[3]


@kernel
def _add_gradients(positions, corrections, gradient, ends, threads, found):
    """Writes the gradients of corrections into `found` (frames, 6)."""
    samples, frames = positions.shape[0], len(ends)
    # In float64, since thousands of numbers are summed.
    sums, pose = np.zeros((threads, frames, 3, 4)), np.empty((3, 4))
    for thread in prange(threads):
        _add_some(
            positions, gradient, ends, samples * thread // threads, samples * (thread + 1) // threads, sums[thread]
        )
    for thread in range(1, threads):
        sums[0] += sums[thread]
    for frame in range(frames):
        _write_pose(corrections[frame], pose)
        _write_gradient(corrections[frame], pose, sums[0, frame], found[frame])


@lean
def _add_some(positions, gradient, ends, begin, end, sums):
    """Adds the gradients of R and t over the samples from `begin` to `end`, frame by frame."""
    first = 0
    for frame in range(len(ends)):
        of_x = of_y = of_z = (0.0, 0.0, 0.0, 0.0)
        for i in range(max(begin, first), min(end, ends[frame])):
            x, y, z = np.float64(positions[i, 0]), np.float64(positions[i, 1]), np.float64(positions[i, 2])
            of_x = _more(of_x, gradient[i, 0], x, y, z)
            of_y = _more(of_y, gradient[i, 1], x, y, z)
            of_z = _more(of_z, gradient[i, 2], x, y, z)
        for k in range(4):
            sums[frame, 0, k], sums[frame, 1, k], sums[frame, 2, k] = of_x[k], of_y[k], of_z[k]
        first = ends[frame]


@lean
def _more(row, along, x, y, z):
    """The gradient of a row of R and t, with one more sample."""
    return row[0] + along * x, row[1] + along * y, row[2] + along * z, row[3] + along


@lean
def _write_gradient(correction, pose, total, found):
    """Writes the gradient of a correction from those of R and t, by the left Jacobian."""
    x, y, z = np.float64(correction[0]), np.float64(correction[1]), np.float64(correction[2])
    _, versine, third = _factors(x * x + y * y + z * z)
    a, b, c = _turn(total, pose, 2, 1), _turn(total, pose, 0, 2), _turn(total, pose, 1, 0)
    d, e, f = y * c - z * b, z * a - x * c, x * b - y * a
    found[0] = a - versine * d + third * (y * f - z * e)
    found[1] = b - versine * e + third * (z * d - x * f)
    found[2] = c - versine * f + third * (x * e - y * d)
    for axis in range(3):
        found[3 + axis] = total[axis, 3]


@lean
def _turn(total, pose, i, j):
    """An entry of G R^T less that of its transpose."""
    turned = 0.0
    for k in range(3):
        turned += total[i, k] * pose[j, k] - total[j, k] * pose[i, k]
    return turned
