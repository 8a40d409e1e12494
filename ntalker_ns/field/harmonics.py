"""Real spherical harmonics of viewing directions, which colour is told; the samples of a ray share them."""

import torch
from jaxtyping import Float
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor

from ntalker_ns.encodings.hash_grid import automatic_backend


@torch.no_grad()
def spherical_harmonics(levels: int, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays levels**2"]:
    """nerfstudio's, on CUDA in one kernel; no gradient.

    Args:
        levels: 1 to 5.
        directions: unit.
    """
    if automatic_backend(directions.device.type) == "triton" and directions.dtype == torch.float32:
        from ntalker_ns.field import triton_harmonics

        if levels <= triton_harmonics.MOST_LEVELS:
            return triton_harmonics.spherical_harmonics(levels, directions)
    return components_from_spherical_harmonics(levels, directions)
