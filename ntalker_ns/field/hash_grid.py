"""The multi-resolution hash grid as a module: a table of features, and the backend that reads it."""

import importlib
from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.backend import Backend, automatic_backend, unavailable
from ntalker_ns.kernels.grid_layout import GridLayout, grid_layout

Encode = Callable[[Tensor, Tensor, GridLayout, int], Tensor]
"""(points, table, layout, active levels) -> features."""

INITIAL_RANGE = 1e-4
"""Tables start uniform within plus or minus this (Instant-NGP, section 4)."""


class HashGrid(nn.Module):
    """Encodes positions by interpolating learned features at the vertices of grids of growing resolution.

    Args:
        dims: axes of a position, 2 or 3.
        num_levels: grids, coarse to fine.
        features_per_level: features at each vertex.
        base_resolution: cells along each axis of the coarsest grid.
        max_resolution: cells along each axis of the finest grid.
        log2_hashmap_size: binary logarithm of the most vertices a grid stores; larger grids are hashed.
        backend: what computes it; "auto" takes numba on the CPU, and on CUDA Triton where it is installed.
    """

    def __init__(
        self,
        dims: int,
        num_levels: int = 16,
        features_per_level: int = 2,
        base_resolution: int = 16,
        max_resolution: int = 2048,
        log2_hashmap_size: int = 16,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.layout = grid_layout(
            dims, num_levels, features_per_level, base_resolution, max_resolution, log2_hashmap_size
        )
        self.backend: Backend = backend
        self.table = nn.Parameter(torch.empty(self.layout.total_entries, features_per_level))
        nn.init.uniform_(self.table, -INITIAL_RANGE, INITIAL_RANGE)

    @property
    def output_width(self) -> int:
        """Features of an encoded position."""
        return self.layout.output_width

    def forward(
        self, points: Float[Tensor, "points dims"], active_levels: int | None = None
    ) -> Float[Tensor, "points width"]:
        """Encodes positions.

        Args:
            points: (N, dims) positions in [0, 1]; those outside are clamped, and have no gradient along the
                clamped axes.
            active_levels: levels used, coarse first; the features of the others are zero. None: all.

        Returns:
            (N, levels * features) features in the table's type, coarse levels first.
        """
        levels = self.layout.num_levels if active_levels is None else active_levels
        if points.ndim != 2 or points.shape[1] != self.layout.dims:
            raise ValueError(f"Expected points of shape (N, {self.layout.dims}), got {tuple(points.shape)}.")
        if not 1 <= levels <= self.layout.num_levels:
            raise ValueError(f"active_levels must be 1 to {self.layout.num_levels}, not {levels}.")
        return encoder(self.backend, self.table.device)(points, self.table, self.layout, levels)


def encoder(backend: Backend, device: torch.device) -> Encode:
    """Finds the function that computes an encoding, importing its library at first use.

    Args:
        backend: the backend, or "auto".
        device: where table and points are.

    Returns:
        The backend's `encode`.

    Raises:
        NTalkerError: the backend does not run there.
    """
    return _encoder(backend, device.type)


@lru_cache
def _encoder(backend: Backend, device_type: str) -> Encode:
    name = automatic_backend(device_type) if backend == "auto" else backend
    reason = unavailable(name, device_type)
    if reason:
        raise NTalkerError(f'The hash grids\' backend "{name}" cannot be used here: {reason}; use "auto".')
    module = "reference" if name == "torch" else name
    return importlib.import_module(f"ntalker_ns.kernels.{module}.hash_grid").encode
