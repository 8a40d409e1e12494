"""Where each level of a multi-resolution hash grid lies in its table: plain data that all backends share."""

import math
from dataclasses import dataclass

ENTRY_ALIGNMENT = 8
"""Levels start at multiples of this many entries, so that none shares a cache line with its neighbour."""

HASH_PRIMES = (1, 2_654_435_761, 805_459_861)
"""Factors of the spatial hash, one per axis (Instant-NGP, equation 4)."""


@dataclass(frozen=True)
class GridLayout:
    """The levels of one grid, coarse to fine, in one flat table of `total_entries` x `features_per_level`."""

    dims: int
    """Axes of the grid: 2 or 3."""
    features_per_level: int
    """Features stored at each vertex."""
    resolutions: tuple[int, ...]
    """Cells along each axis, per level; a level of r cells has r + 1 vertices along each axis."""
    offsets: tuple[int, ...]
    """First table entry of each level."""
    sizes: tuple[int, ...]
    """Table entries of each level; a power of two on hashed levels."""
    dense: tuple[bool, ...]
    """Whether each vertex of the level has an entry of its own; otherwise vertices are hashed."""

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.resolutions)

    @property
    def total_entries(self) -> int:
        """Entries of the whole table."""
        return self.offsets[-1] + self.sizes[-1]

    @property
    def output_width(self) -> int:
        """Features of an encoded point: levels x features per level."""
        return self.num_levels * self.features_per_level


def grid_layout(
    dims: int,
    num_levels: int,
    features_per_level: int,
    base_resolution: int,
    max_resolution: int,
    log2_hashmap_size: int,
) -> GridLayout:
    """Lays out levels whose resolutions grow geometrically (Instant-NGP, equations 2 and 3).

    Args:
        dims: axes of the grid, 2 or 3.
        num_levels: levels, at least 1.
        features_per_level: features at each vertex, at least 1.
        base_resolution: cells along each axis of the coarsest level, at least 1.
        max_resolution: cells along each axis of the finest level, at least `base_resolution`.
        log2_hashmap_size: binary logarithm of the most entries a level may have, 3 to 28.

    Returns:
        The layout. Levels whose vertices fit the table are dense, the others hashed.

    Raises:
        ValueError: an argument is outside its range.
    """
    if dims not in (2, 3):
        raise ValueError(f"A hash grid has 2 or 3 dimensions, not {dims}.")
    if num_levels < 1 or features_per_level < 1:
        raise ValueError("A hash grid needs at least one level and one feature.")
    if not 1 <= base_resolution <= max_resolution:
        raise ValueError(f"Need 1 <= base_resolution <= max_resolution, not {base_resolution}, {max_resolution}.")
    if not 3 <= log2_hashmap_size <= 28:
        raise ValueError(f"log2_hashmap_size must be 3 to 28, not {log2_hashmap_size}.")
    table_size = 1 << log2_hashmap_size
    resolutions = _resolutions(num_levels, base_resolution, max_resolution)
    vertices = [(resolution + 1) ** dims for resolution in resolutions]
    dense = tuple(count <= table_size for count in vertices)
    sizes = tuple(_aligned(count) if fits else table_size for count, fits in zip(vertices, dense, strict=True))
    offsets = tuple(sum(sizes[:level]) for level in range(num_levels))
    return GridLayout(dims, features_per_level, resolutions, offsets, sizes, dense)


def _resolutions(num_levels: int, base: int, finest: int) -> tuple[int, ...]:
    if num_levels == 1:
        return (base,)
    growth = math.log(finest / base) / (num_levels - 1)
    # The tolerance keeps the finest level at `finest` when the exponential rounds just below it.
    return tuple(math.floor(base * math.exp(growth * level) + 1e-6) for level in range(num_levels))


def _aligned(entries: int) -> int:
    return -(-entries // ENTRY_ALIGNMENT) * ENTRY_ALIGNMENT
