"""The multi-resolution hash grid on the CPU."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor

from ntalker_ns.kernels.grid_layout import GridLayout
from ntalker_ns.kernels.numba import hash_grid_kernels as kernels
from ntalker_ns.kernels.numba.common import KERNEL_LOCK


def encode(
    points: Float[Tensor, "points dims"],
    table: Float[Tensor, "entries features"],
    layout: GridLayout,
    active_levels: int,
) -> Float[Tensor, "points width"]:
    """See `kernels.reference.hash_grid.encode`; float32 or float64 tables, features in the table's type."""
    return _Encode.apply(points.to(table.dtype), table, layout, active_levels)  # pyright: ignore[reportReturnType]


def arguments(table: Tensor, layout: GridLayout, active_levels: int) -> tuple[np.ndarray, "Shared"]:
    """The table and the arguments that all kernels share.

    Args:
        table: (entries, features), contiguous, on the CPU.
        layout: where each level lies in the table.
        active_levels: levels used, coarse first.
    """
    flat = table.detach().view(-1).numpy()
    return flat, _shared_arguments(layout, active_levels, flat.dtype)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, layout: GridLayout, active_levels: int) -> Tensor:
        points, table = points.contiguous(), table.contiguous()
        output = table.new_empty(len(points), layout.output_width)
        flat, shared = arguments(table, layout, active_levels)
        with KERNEL_LOCK:
            kernels.forward(points.numpy(), flat, *shared, output.view(-1).numpy())
        ctx.save_for_backward(points, table)
        ctx.shared = shared
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        points, table = ctx.saved_tensors
        shared: Shared = ctx.shared
        arrays = points.numpy(), gradient.to(table.dtype).contiguous().view(-1).numpy()
        points_gradient = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        table_gradient = torch.empty_like(table) if ctx.needs_input_grad[1] else None
        with KERNEL_LOCK:
            if points_gradient is not None:
                kernels.coordinate_gradient(*arrays, table.view(-1).numpy(), *shared, points_gradient.numpy())
            if table_gradient is not None:
                flat = table_gradient.view(-1).numpy()
                kernels.table_gradient(*arrays, *shared, get_num_threads(), flat)
        return points_gradient, table_gradient, None, None


class Shared(NamedTuple):
    """Arguments that all kernels share, see `hash_grid_kernels`."""

    scales: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    dense: np.ndarray
    active: int
    axes: tuple[int, ...]
    lanes: tuple[int, ...]


@lru_cache
def _shared_arguments(layout: GridLayout, active_levels: int, kind: np.dtype) -> Shared:
    return Shared(
        scales=np.array(layout.resolutions, kind),
        offsets=np.array(layout.offsets, np.int64),
        sizes=np.array(layout.sizes, np.int64),
        dense=np.array(layout.dense, np.bool_),
        active=active_levels,
        axes=(0,) * layout.dims,
        lanes=(0,) * layout.features_per_level,
    )
