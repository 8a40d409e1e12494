"""Pose corrections on CUDA."""

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
from ntalker_ns.kernels.reference.poses import SMALL

BLOCK = 256
"""Samples of a program that moves them."""
SUMMED = 1024
"""Samples of a program that sums their gradients."""
SERIES_BELOW = tl.constexpr(SMALL)
"""Squared angle below which its functions are taken from their series, where kernels can read it."""


def correct_poses(
    positions: Float[Tensor, "samples 3"], corrections: Float[Tensor, "frames 6"], counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """See `kernels.reference.poses.correct_poses`; computed in float32."""
    return _Correct.apply(positions, corrections, counts)  # type: ignore[no-any-return]


class _Correct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, corrections: Tensor, counts: list[int]) -> Tensor:
        positions, corrections = positions.float().contiguous(), corrections.float().contiguous()
        ctx.save_for_backward(positions, corrections)
        ctx.counts, moved = counts, torch.empty_like(positions)
        if most := max(counts, default=0):
            ends = ends_on(counts, positions.device)
            with torch.cuda.device_of(positions):
                move_samples[(triton.cdiv(most, BLOCK), len(counts))](
                    positions, corrections, ends, moved, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
                )
        return moved

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        positions, corrections = ctx.saved_tensors
        gradient, found = gradient.float().contiguous(), torch.zeros_like(corrections)
        if most := max(ctx.counts, default=0):
            frames, ends = len(ctx.counts), ends_on(ctx.counts, positions.device)
            sums = positions.new_zeros(frames, 12)
            with torch.cuda.device_of(positions):
                sum_motions[(triton.cdiv(most, SUMMED), frames)](
                    positions, gradient, ends, sums, BLOCK=SUMMED, num_warps=4, enable_fp_fusion=True
                )
                correction_gradient[(frames,)](corrections, sums, found, num_warps=1, enable_fp_fusion=True)
        return None, found, None


@triton.jit
def _factors(squared):
    """sin(a) / a, (1 - cos(a)) / a^2 and (a - sin(a)) / a^3 of a squared angle; of small ones from their series, see
    `kernels.reference.poses.SERIES`."""
    small = squared < SERIES_BELOW
    angle = tl.sqrt(tl.where(small, 1.0, squared))
    half = tl.sin(0.5 * angle) / angle
    sine = tl.where(small, 1.0 + squared * (-1.0 / 6.0 + squared / 120.0), tl.sin(angle) / angle)
    versine = tl.where(small, 0.5 + squared * (-1.0 / 24.0 + squared / 720.0), 2.0 * half * half)
    series = 1.0 / 6.0 + squared * (-1.0 / 120.0 + squared / 5040.0)
    return sine, versine, tl.where(small, series, (1.0 - sine) / tl.where(small, 1.0, squared))


@triton.jit
def _vector(corrections, frame):
    """A frame's rotation vector."""
    row = corrections + 6 * frame
    return tl.load(row), tl.load(row + 1), tl.load(row + 2)


@triton.jit
def _rotation(x, y, z):
    """R = cos(a) I + sin(a) / a [w] + (1 - cos(a)) / a^2 w w^T, row by row."""
    squared = x * x + y * y + z * z
    sine, versine, _ = _factors(squared)
    cosine = 1.0 - versine * squared
    xy, xz, yz = versine * x * y, versine * x * z, versine * y * z
    xx, yy, zz = cosine + versine * x * x, cosine + versine * y * y, cosine + versine * z * z
    x, y, z = sine * x, sine * y, sine * z
    return xx, xy - z, xz + y, xy + z, yy, yz - x, xz - y, yz + x, zz


@triton.jit
def _samples(ends, BLOCK: tl.constexpr):
    """The samples of a program and which of them are its frame's."""
    frame = tl.program_id(1)
    first = tl.load(ends + frame - 1, mask=frame > 0, other=0)
    sample = first + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return frame, sample, sample < tl.load(ends + frame)


@triton.jit
def _rows(values, sample, there):
    """The three numbers of each sample."""
    row = values + 3 * sample
    return (
        tl.load(row, mask=there, other=0),
        tl.load(row + 1, mask=there, other=0),
        tl.load(row + 2, mask=there, other=0),
    )


@triton.jit
def move_samples(positions, corrections, ends, moved, BLOCK: tl.constexpr):
    """Writes the moved positions of a block of one frame's samples."""
    frame, sample, there = _samples(ends, BLOCK)
    x, y, z = _rows(positions, sample, there)
    a, b, c = _vector(corrections, frame)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = _rotation(a, b, c)
    shift, row = corrections + 6 * frame + 3, moved + 3 * sample
    tl.store(row, xx * x + xy * y + xz * z + tl.load(shift), mask=there)
    tl.store(row + 1, yx * x + yy * y + yz * z + tl.load(shift + 1), mask=there)
    tl.store(row + 2, zx * x + zy * y + zz * z + tl.load(shift + 2), mask=there)


@triton.jit
def sum_motions(positions, gradient, ends, sums, BLOCK: tl.constexpr):
    """Adds the gradients of a frame's rotation matrix, row by row, and of its shift over a block of its samples."""
    frame, sample, there = _samples(ends, BLOCK)
    x, y, z = _rows(positions, sample, there)
    total = sums + 12 * frame
    for axis in tl.static_range(3):
        along = tl.load(gradient + 3 * sample + axis, mask=there, other=0)
        tl.atomic_add(total + 3 * axis, tl.sum(along * x, axis=0))
        tl.atomic_add(total + 3 * axis + 1, tl.sum(along * y, axis=0))
        tl.atomic_add(total + 3 * axis + 2, tl.sum(along * z, axis=0))
        tl.atomic_add(total + 9 + axis, tl.sum(along, axis=0))


@triton.jit
def _turn(total, i: tl.constexpr, j: tl.constexpr, i_x, i_y, i_z, j_x, j_y, j_z):
    """An entry of G R^T less that of its transpose, of rows i and j of the sums G and of R."""
    to_i = tl.load(total + 3 * i) * j_x + tl.load(total + 3 * i + 1) * j_y + tl.load(total + 3 * i + 2) * j_z
    return to_i - (tl.load(total + 3 * j) * i_x + tl.load(total + 3 * j + 1) * i_y + tl.load(total + 3 * j + 2) * i_z)


@triton.jit
def correction_gradient(corrections, sums, found):
    """Writes the gradient of a frame's correction, by the left Jacobian J of rotations, dR = [J dw] R with
    J^T g = g - (1 - cos(a)) / a^2 [w] g + (a - sin(a)) / a^3 [w]^2 g."""
    frame = tl.program_id(0)
    total, row = sums + 12 * frame, found + 6 * frame
    x, y, z = _vector(corrections, frame)
    _, versine, third = _factors(x * x + y * y + z * z)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = _rotation(x, y, z)
    a = _turn(total, 2, 1, zx, zy, zz, yx, yy, yz)
    b = _turn(total, 0, 2, xx, xy, xz, zx, zy, zz)
    c = _turn(total, 1, 0, yx, yy, yz, xx, xy, xz)
    d, e, f = y * c - z * b, z * a - x * c, x * b - y * a
    tl.store(row, a - versine * d + third * (y * f - z * e))
    tl.store(row + 1, b - versine * e + third * (z * d - x * f))
    tl.store(row + 2, c - versine * f + third * (x * e - y * d))
    for axis in tl.static_range(3):
        tl.store(row + 3 + axis, tl.load(total + 9 + axis))
