"""Spherical harmonics of viewing directions."""

import torch
from jaxtyping import Float
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor


@torch.no_grad()
def spherical_harmonics(levels: int, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays components"]:
    """nerfstudio's components; no gradient.

    Args:
        levels: 1 to 5.
        directions: unit.
    """
    return components_from_spherical_harmonics(levels, directions)
