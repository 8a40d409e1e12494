"""TODO ntalker_ns.kernels.reference.surface."""

import torch
from jaxtyping import Float
from torch import Tensor


def squared_off_torch(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """The squared distance along y of each position from a surface, world units; no gradient.

    Args:
        positions: world.
        surface: world y by place along x, then z; places are the centres of cells of [-1, 1], with straight lines in
            between and beyond the outermost ones as there.
    """
    # A list of columns would be copied to the device, and the host wait for it.
    places = positions.detach().flip(dims=[-1])[None, None, :, ::2]
    maps = surface.to(positions.dtype)[None, None]
    found = torch.nn.functional.grid_sample(maps, places, padding_mode="border", align_corners=False)
    return (positions.detach()[:, 1] - found.flatten()).square()
