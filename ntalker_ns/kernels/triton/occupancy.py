"""Which cells training rays see, on CUDA."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

SAMPLES = 256
"""Samples of a program."""


def mark_visible(
    positions: Float[Tensor, "samples 3"],
    weights: Float[Tensor, "samples"],
    visible: Float[Tensor, "grid grid grid"],
) -> None:
    """See `kernels.reference.occupancy.mark_visible`; computed in float32."""
    if len(positions):
        with torch.cuda.device_of(positions):
            raise_visibility[(triton.cdiv(len(positions), SAMPLES),)](
                *(each.detach().float().contiguous() for each in (positions, weights)),
                visible,
                *(len(positions), len(visible)),
                SAMPLES=SAMPLES,
                num_warps=4,
            )


@triton.jit
def _cell(positions, sample, there, axis: tl.constexpr, grid):
    """The cell of a coordinate in [-1, 1]."""
    coordinate = tl.load(positions + 3 * sample + axis, mask=there, other=0)
    cell = ((coordinate + 1) * (0.5 * grid)).to(tl.int32)
    return tl.minimum(tl.maximum(cell, 0), grid - 1)


@triton.jit(do_not_specialize=["num_samples"])
def raise_visibility(positions, weights, visible, num_samples, grid, SAMPLES: tl.constexpr):
    """Raises the visibility of each sample's cell to the sample's weight."""
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    there = sample < num_samples
    x = _cell(positions, sample, there, 0, grid)
    y = _cell(positions, sample, there, 1, grid)
    z = _cell(positions, sample, there, 2, grid)
    weight = tl.load(weights + sample, mask=there, other=0)
    # Most weights are below their cells' and skip the atomic operation.
    place = visible + (x * grid + y) * grid + z
    more = there & (weight > tl.load(place, mask=there, other=0))
    tl.atomic_max(place, weight, mask=more)
