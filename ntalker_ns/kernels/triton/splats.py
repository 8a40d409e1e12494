"""Rasterisation of Gaussians on CUDA: projection, sorting by depth, lists of bins, compositing tile by tile.

Nothing waits for the device, and the sizes of all buffers follow from the numbers of Gaussians and pixels, so that a
picture can be recorded as a CUDA graph: the picture is divided into at most `BINS` by `BINS` bins with room for every
Gaussian, and a tile looks through its bin's list.
"""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.triton.splats_projection import BLOCK, PACKED, SUMS, project_gaussians, project_gradients
from ntalker_ns.kernels.triton.splats_raster import (
    LISTED,
    LOOKED_AT,
    TILE,
    composite_gaussians,
    composite_gradients,
    list_bins,
)
from ntalker_ns.kernels.types import Gaussians, Raster, SplatView

BINS = 8
"""Bins along a side of the picture, at most."""
BACKWARD_WARPS = 4
FORWARD_WARPS = 4


def accepts_rasterise(gaussians: Gaussians, *_: Any, **__: Any) -> bool:
    """float32."""
    return gaussians.means.dtype == torch.float32


def rasterise(gaussians: Gaussians, view: SplatView, screen_gradient: Float[Tensor, "n"] | None = None) -> Raster:
    """See `kernels.reference.splats.rasterise`; without synchronisation."""
    given = (
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.opacity_logits,
        gaussians.colours,
        view.world_to_camera.float(),
    )
    return Raster(*_Rasterise.apply(*given, view, screen_gradient))  # type: ignore[misc]


class _Lists(NamedTuple):
    """Each bin's Gaussians, the nearest first."""

    entries: Tensor
    """(bins, Gaussians)."""
    counts: Tensor
    """(bins,)."""
    tiles_across: int
    bins_across: int
    bin_width: int
    """Tiles."""
    bin_height: int
    """Tiles."""


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        *tensors, view, ctx.screen_gradient = given
        tensors = [each.contiguous() for each in tensors]
        count, device = len(tensors[0]), tensors[0].device
        packed = torch.empty(count, PACKED, device=device)
        boxes = torch.empty(count, 4, dtype=torch.int32, device=device)
        shapes = ((view.height, view.width, 3), (view.height, view.width), (view.height, view.width))
        picture = tuple(torch.zeros(shape, device=device) for shape in shapes)
        ctx.view, ctx.lists = view, None
        if count:
            with torch.cuda.device_of(packed):
                project_gaussians[(triton.cdiv(count, BLOCK),)](
                    *tensors, packed, boxes, count, *_lens(view), BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
                )
                ctx.lists = _sort(packed, boxes, view)
                composite_gaussians[_tiles(view)](
                    *(packed, boxes, *ctx.lists[:2], *picture, count, view.width, view.height, *ctx.lists[2:]),
                    *(TILE, LOOKED_AT),
                    num_warps=FORWARD_WARPS,
                    enable_fp_fusion=True,
                )
        ctx.save_for_backward(*tensors, packed, boxes, *picture)
        return picture

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, packed, boxes, colour, opacity, depth = ctx.saved_tensors
        found, view, count = [torch.zeros_like(each) for each in tensors], ctx.view, len(packed)
        if count:
            sums = packed.new_zeros(count, SUMS)
            norms = ctx.screen_gradient
            with torch.cuda.device_of(packed):
                composite_gradients[_tiles(view)](
                    *(packed, boxes, *ctx.lists[:2], colour, opacity, depth),
                    *(each.contiguous() for each in upstream),
                    *(sums, count, view.width, view.height, *ctx.lists[2:]),
                    *(TILE, LOOKED_AT),
                    num_warps=BACKWARD_WARPS,
                    enable_fp_fusion=True,
                )
                project_gradients[(triton.cdiv(count, BLOCK),)](
                    *(*tensors[:4], tensors[5], boxes, sums, *found, sums if norms is None else norms),
                    *(count, *_lens(view), norms is not None),
                    BLOCK=BLOCK,
                    num_warps=4,
                    enable_fp_fusion=True,
                )
        return *found, None, None


def _lens(view: SplatView) -> tuple[float, ...]:
    return tuple(float(each) for each in (view.fx, view.fy, view.cx, view.cy, view.width, view.height))


def _tiles(view: SplatView) -> tuple[int]:
    return (triton.cdiv(view.width, TILE) * triton.cdiv(view.height, TILE),)


def _sort(packed: Tensor, boxes: Tensor, view: SplatView) -> _Lists:
    """Lists of bins; those that are not drawn are in none."""
    across, down = triton.cdiv(view.width, TILE), triton.cdiv(view.height, TILE)
    bin_width, bin_height = triton.cdiv(across, BINS), triton.cdiv(down, BINS)
    bins_across, bins_down = triton.cdiv(across, bin_width), triton.cdiv(down, bin_height)
    bins, count = bins_across * bins_down, len(packed)
    order = torch.argsort(packed[:, 9], stable=True)
    entries = torch.empty(bins, count, dtype=torch.int32, device=packed.device)
    counts = torch.empty(bins, dtype=torch.int32, device=packed.device)
    list_bins[(bins,)](
        *(order, boxes, entries, counts, count, bins_across, bin_width * TILE, bin_height * TILE),
        LISTED=LISTED,
        num_warps=8,
    )
    return _Lists(entries, counts, across, bins_across, bin_width, bin_height)
