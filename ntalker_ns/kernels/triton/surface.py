"""Distance of samples from a surface on CUDA."""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

SAMPLES = 256
"""Samples of a program."""


def accepts_squared_distance(positions: Tensor, *_: Any) -> bool:
    """float32."""
    return positions.dtype == torch.float32


def squared_distance(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """See `kernels.reference.surface.squared_distance`."""
    found = positions.new_empty(len(positions))
    if len(positions):
        with torch.cuda.device_of(positions):
            squared_distances[(triton.cdiv(len(positions), SAMPLES),)](
                *(positions.detach().contiguous(), surface.contiguous(), found, len(positions), len(surface)),
                SAMPLES=SAMPLES,
                num_warps=4,
            )
    return found


@triton.jit
def _place(coordinates, sample, there, axis: tl.constexpr, columns):
    """The cell whose centre is before a coordinate in [-1, 1], and how far behind it the coordinate is, in cells."""
    coordinate = tl.load(coordinates + 3 * sample + axis, mask=there, other=0)
    place = (coordinate + 1) * (0.5 * columns) - 0.5
    place = tl.minimum(tl.maximum(place, 0.0), columns - 1.0)
    cell = place.to(tl.int32)
    return cell, place - cell.to(tl.float32)


@triton.jit(do_not_specialize=["num_samples"])
def squared_distances(positions, surface, found, num_samples, columns, SAMPLES: tl.constexpr):
    """Writes squared distances from a surface, between whose places lines are straight."""
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    there = sample < num_samples
    x, along_x = _place(positions, sample, there, 0, columns)
    z, along_z = _place(positions, sample, there, 2, columns)
    next_x, next_z = tl.minimum(x + 1, columns - 1), tl.minimum(z + 1, columns - 1)
    here, behind = tl.load(surface + x * columns + z), tl.load(surface + x * columns + next_z)
    near = here + along_z * (behind - here)
    here, behind = tl.load(surface + next_x * columns + z), tl.load(surface + next_x * columns + next_z)
    far = here + along_z * (behind - here)
    off = tl.load(positions + 3 * sample + 1, mask=there, other=0) - (near + along_x * (far - near))
    tl.store(found + sample, off * off, mask=there)
