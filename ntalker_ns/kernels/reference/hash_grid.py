"""The multi-resolution hash grid (Instant-NGP, Mueller et al. 2022, section 3)."""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.grid_layout import HASH_PRIMES, GridLayout


def encode(
    points: Float[Tensor, "points dims"],
    table: Float[Tensor, "entries features"],
    layout: GridLayout,
    active_levels: int,
) -> Float[Tensor, "points width"]:
    """Interpolates every level of the grid at each point.

    Args:
        points: (N, dims) positions in [0, 1]; those outside are clamped, and have no gradient along the clamped axes.
        table: (entries, features) the features of all levels.
        layout: where each level lies in the table.
        active_levels: levels used, coarse first; the features of the others are zero.

    Returns:
        (N, levels * features) features, coarse levels first.
    """
    inside = (points >= 0) & (points <= 1)
    clamped = torch.where(inside, points, points.detach().clamp(0.0, 1.0))
    levels = [_encode_level(clamped, table, layout, level) for level in range(active_levels)]
    missing = (layout.num_levels - active_levels) * layout.features_per_level
    return torch.cat([*levels, points.new_zeros(len(points), missing)], dim=-1)


def _encode_level(
    points: Float[Tensor, "points dims"],
    table: Float[Tensor, "entries features"],
    layout: GridLayout,
    level: int,
) -> Float[Tensor, "points features"]:
    resolution = layout.resolutions[level]
    scaled = points * resolution
    # The far border belongs to the last cell, so that no vertex beyond it is read; so does NaN, which then shows in
    # the features and not in an address.
    cell = scaled.detach().nan_to_num(resolution).floor().clamp(0, resolution - 1)
    fraction = scaled - cell
    features = torch.zeros(len(points), layout.features_per_level, dtype=table.dtype, device=table.device)
    for corner in product((0, 1), repeat=layout.dims):
        step = torch.tensor(corner, device=points.device)
        weight = torch.where(step.bool(), fraction, 1 - fraction).prod(dim=-1, keepdim=True)
        features = features + weight * table[vertex_entries(cell.long() + step, layout, level)]
    return features


def vertex_entries(vertices: Int[Tensor, "points dims"], layout: GridLayout, level: int) -> Int[Tensor, "points"]:
    """The table entries that hold given vertices of a level.

    Args:
        vertices: (N, dims) int64 vertex coordinates, 0 to the level's resolution.
        layout: where each level lies in the table.
        level: the level.

    Returns:
        (N,) int64 entries of the whole table.
    """
    entries = torch.zeros_like(vertices[:, 0])
    if layout.dense[level]:
        for axis in reversed(range(layout.dims)):
            entries = entries * (layout.resolutions[level] + 1) + vertices[:, axis]
    else:
        for axis in range(layout.dims):
            entries = entries ^ (vertices[:, axis] * HASH_PRIMES[axis])
        entries = entries & (layout.sizes[level] - 1)
    return entries + layout.offsets[level]
