"""How far what rays see is from where the tracked face says it is."""

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.encodings.hash_grid import automatic_backend


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


def squared_off(
    positions: Float[Tensor, "samples 3"], surface: Float[Tensor, "columns columns"]
) -> Float[Tensor, "samples"]:
    """`squared_off_torch`, by the fastest implementation for the device (the same numbers)."""
    backend = automatic_backend(positions.device.type)
    if positions.dtype != torch.float32 or backend == "torch":
        return squared_off_torch(positions, surface)
    if backend == "numba":
        from ntalker_ns.rendering.numba_surface import squared_off as fused
    else:
        from ntalker_ns.rendering.triton_surface import squared_off as fused
    return fused(positions, surface)
