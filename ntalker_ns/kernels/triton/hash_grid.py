"""The multi-resolution hash grid on CUDA."""

from functools import lru_cache
from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.grid_layout import GridLayout
from ntalker_ns.kernels.triton import hash_grid_kernels as kernels

TILE = 512
"""Values that a program computes at once: four for each lane of four warps."""


def encode(
    points: Float[Tensor, "points dims"],
    table: Float[Tensor, "entries features"],
    layout: GridLayout,
    active_levels: int,
) -> Float[Tensor, "points width"]:
    """See `kernels.reference.hash_grid.encode`; float16, bfloat16, float32 or float64 tables, features in their type.

    Half-precision tables are interpolated in float32, and their gradient is summed in float32.
    """
    kind = torch.float64 if table.dtype == torch.float64 else torch.float32
    return _Encode.apply(points.to(kind), table, layout, active_levels)  # pyright: ignore[reportReturnType]


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, layout: GridLayout, active_levels: int) -> Tensor:
        points, table = points.contiguous(), table.contiguous()
        output = table.new_empty(len(points), layout.output_width)
        _launch(kernels.hash_grid_forward, (points, table), output, layout, active_levels)
        ctx.save_for_backward(points, table)
        ctx.layout, ctx.active_levels = layout, active_levels
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        points, table = ctx.saved_tensors
        gradient = gradient.contiguous()
        points_gradient = table_gradient = None
        if ctx.needs_input_grad[0]:
            points_gradient = torch.empty_like(points)
            tensors = (points, gradient, table)
            _launch(kernels.hash_grid_coordinate_gradient, tensors, points_gradient, ctx.layout, ctx.active_levels)
        if ctx.needs_input_grad[1]:
            # In half precision, sums of thousands of small numbers would lose most of them.
            table_gradient = torch.zeros_like(table, dtype=points.dtype)
            _launch(kernels.hash_grid_table_gradient, (points, gradient), table_gradient, ctx.layout, ctx.active_levels)
            table_gradient = table_gradient.to(table.dtype)
        return points_gradient, table_gradient, None, None


def _launch(kernel: Any, tensors: tuple[Tensor, ...], output: Tensor, layout: GridLayout, active_levels: int) -> None:
    """Runs a kernel over all points; `tensors` are its arguments before the levels, the points first."""
    points = tensors[0]
    if not len(points):
        return
    padded = triton.next_power_of_2(layout.output_width)
    rows = max(TILE // padded, 1)
    with torch.cuda.device_of(points):
        kernel[(triton.cdiv(len(points), rows),)](
            *tensors,
            _level_table(layout, points.device),
            output,
            len(points),
            active_levels * layout.features_per_level,
            DIMS=layout.dims,
            FEATURES=layout.features_per_level,
            WIDTH=layout.output_width,
            PADDED=padded,
            ROWS=rows,
            num_warps=4,
            # A fused multiply-add rounds the place within a cell otherwise than the reference does.
            enable_fp_fusion=False,
        )


@lru_cache
def _level_table(layout: GridLayout, device: torch.device) -> Int[Tensor, "4 levels"]:
    """What the kernels need of each level: resolution, first entry, size - 1, whether it is dense."""
    last = [size - 1 for size in layout.sizes]
    dense = [int(each) for each in layout.dense]
    return torch.tensor([layout.resolutions, layout.offsets, last, dense], dtype=torch.int32, device=device)
