"""Distance of samples from the tracked face's surface."""

import torch
from jaxtyping import Float
from torch import Tensor


def squared_distance(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """The squared distance along y of each position from a surface, world units; no gradient.

    Args:
        positions: world.
        surface: world y at the centres of cells of [-1, 1] along x and z; linear in between, constant beyond.
    """
    # Indexing by a list of columns would need a synchronisation.
    places = positions.detach().flip(dims=[-1])[None, None, :, ::2]
    maps = surface.to(positions.dtype)[None, None]
    depth = torch.nn.functional.grid_sample(maps, places, padding_mode="border", align_corners=False)
    return (positions.detach()[:, 1] - depth.flatten()).square()
