"""The multi-resolution hash grid as a module."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.kernels.grid_layout import grid_layout
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import HashTable

INITIAL_RANGE = 1e-4
"""Tables start uniform within plus or minus this (Instant-NGP, section 4)."""


class HashGrid(nn.Module):
    """Encodes positions by interpolating learned features at the vertices of grids of growing resolution."""

    def __init__(
        self,
        ops: Ops,
        dims: int,
        num_levels: int = 16,
        features_per_level: int = 2,
        base_resolution: int = 16,
        max_resolution: int = 2048,
        log2_hashmap_size: int = 16,
    ) -> None:
        """
        Args:
            ops: computes it.
            dims: axes of a position, 2 or 3.
            num_levels: grids, coarse to fine.
            features_per_level: features at each vertex.
            base_resolution: cells along each axis of the coarsest grid.
            max_resolution: cells along each axis of the finest grid.
            log2_hashmap_size: binary logarithm of the most vertices a grid stores; larger grids are hashed.
        """
        super().__init__()
        self.ops = ops
        self.layout = grid_layout(
            dims, num_levels, features_per_level, base_resolution, max_resolution, log2_hashmap_size
        )
        self.table = nn.Parameter(torch.empty(self.layout.total_entries, features_per_level))
        nn.init.uniform_(self.table, -INITIAL_RANGE, INITIAL_RANGE)

    @property
    def output_width(self) -> int:
        """Features of an encoded position."""
        return self.layout.output_width

    def parts(self, active_levels: int | None = None) -> HashTable:
        """The grid as plain data.

        Args:
            active_levels: levels used, coarse first. None: all.

        Raises:
            ValueError: there are not so many levels.
        """
        levels = self.layout.num_levels if active_levels is None else active_levels
        if not 1 <= levels <= self.layout.num_levels:
            raise ValueError(f"active_levels must be 1 to {self.layout.num_levels}, not {levels}.")
        return HashTable(self.table, self.layout, levels)

    def forward(
        self, points: Float[Tensor, "points dims"], active_levels: int | None = None
    ) -> Float[Tensor, "points width"]:
        """Encodes positions.

        Args:
            points: in [0, 1]; those outside are clamped, and have no gradient along the clamped axes.
            active_levels: levels used, coarse first; the features of the others are zero. None: all.

        Returns:
            (N, levels * features) features in the table's type, coarse levels first.

        Raises:
            ValueError: the points have other axes, or there are not so many levels.
        """
        if points.ndim != 2 or points.shape[1] != self.layout.dims:
            raise ValueError(f"Expected points of shape (N, {self.layout.dims}), got {tuple(points.shape)}.")
        return self.ops.encode(points, *self.parts(active_levels))
