"""TODO ntalker_ns.kernels.lattice."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

STILL = 1e-9
"""A component of a unit direction that is smaller than this counts as this: the ray never leaves along its axis."""


class Lattice(NamedTuple):
    """Places along rays at which a field may be asked."""

    origins: Float[Tensor, "rays 3"]
    """World."""
    directions: Float[Tensor, "rays 3"]
    """Unit vectors."""
    near: Float[Tensor, "rays"]
    """Distance at which the lattice begins, world units."""
    far: Float[Tensor, "rays"]
    """Distance that the middles of samples stay below, world units."""
    occupied: Bool[Tensor, "grid grid grid"]
    """Open cells of the box [-1, 1]^3, indexed x, y, z."""
    step: float
    """Length of a sample, world units, above 0."""
    jitter: Float[Tensor, "rays"]
    """Shift of each ray's lattice, in steps, in [0, 1)."""
    max_samples: int
    """Samples kept of a ray at most, the first ones."""
