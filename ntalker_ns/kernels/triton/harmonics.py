"""Spherical harmonics on CUDA: one kernel where torch launches thirty."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 256
"""Rays of a program."""
MAX_LEVELS = 4
"""Levels that the kernel has."""


def accepts_spherical_harmonics(levels: int, directions: Tensor) -> bool:
    """float32, few levels."""
    return levels <= MAX_LEVELS and directions.dtype == torch.float32


@torch.no_grad()
def spherical_harmonics(levels: int, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays components"]:
    """See `kernels.reference.harmonics.spherical_harmonics`."""
    directions = directions.contiguous()
    found = directions.new_empty(len(directions), levels**2)
    if len(directions):
        with torch.cuda.device_of(directions):
            harmonics[(triton.cdiv(len(directions), BLOCK),)](
                directions, found, len(directions), LEVELS=levels, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
            )
    return found


@triton.jit(do_not_specialize=["num_rays"])
def harmonics(directions, found, num_rays, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """Writes the first LEVELS^2 harmonics of each direction, degree by degree, order m from -l to l."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ray < num_rays
    x = tl.load(directions + 3 * ray, mask=there, other=0)
    y = tl.load(directions + 3 * ray + 1, mask=there, other=0)
    z = tl.load(directions + 3 * ray + 2, mask=there, other=0)
    out = found + ray.to(tl.int64) * (LEVELS * LEVELS)
    tl.store(out, tl.full([BLOCK], 0.28209479177387814, tl.float32), mask=there)
    if LEVELS > 1:
        tl.store(out + 1, 0.4886025119029199 * y, mask=there)
        tl.store(out + 2, 0.4886025119029199 * z, mask=there)
        tl.store(out + 3, 0.4886025119029199 * x, mask=there)
    if LEVELS > 2:
        tl.store(out + 4, 1.0925484305920792 * x * y, mask=there)
        tl.store(out + 5, 1.0925484305920792 * y * z, mask=there)
        tl.store(out + 6, 0.9461746957575601 * z * z - 0.31539156525251999, mask=there)
        tl.store(out + 7, 1.0925484305920792 * x * z, mask=there)
        tl.store(out + 8, 0.5462742152960396 * (x * x - y * y), mask=there)
    if LEVELS > 3:
        tl.store(out + 9, 0.5900435899266435 * y * (3 * x * x - y * y), mask=there)
        tl.store(out + 10, 2.890611442640554 * x * y * z, mask=there)
        tl.store(out + 11, 0.4570457994644658 * y * (5 * z * z - 1), mask=there)
        tl.store(out + 12, 0.3731763325901154 * z * (5 * z * z - 3), mask=there)
        tl.store(out + 13, 0.4570457994644658 * x * (5 * z * z - 1), mask=there)
        tl.store(out + 14, 1.445305721320277 * z * (x * x - y * y), mask=there)
        tl.store(out + 15, 0.5900435899266435 * x * (x * x - 3 * y * y), mask=there)
