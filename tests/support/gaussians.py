"""Random Gaussians in front of a camera."""

import math
from dataclasses import astuple, fields

import torch
from torch import Tensor

from ntalker_ns.kernels.types import Gaussians, Raster, SplatView


def random_gaussians(count: int, seed: int = 0, size: float = -2.5, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Gaussians around the origin.

    Args:
        count: how many.
        seed: of the random numbers.
        size: mean logarithm of their standard deviations.
        dtype: of the tensors.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Gaussians(
        means=0.4 * normal(count, 3),
        log_scales=size + 0.5 * normal(count, 3),
        quaternions=1.7 * normal(count, 4),
        opacity_logits=1.5 * normal(count),
        colours=torch.rand(count, 3, generator=generator, dtype=torch.float64).to(dtype),
    )


def view_of(width: int, height: int, dtype: torch.dtype = torch.float64, distance: float = 3.0) -> SplatView:
    """A camera that looks at the origin, a little turned, of unequal focal lengths and a centre off the middle."""
    angle = 0.2
    cosine, sine = math.cos(angle), math.sin(angle)
    rows = [[cosine, 0.0, sine, 0.05], [0.0, 1.0, 0.0, -0.02], [-sine, 0.0, cosine, -distance]]
    matrix = torch.tensor(rows, dtype=dtype)
    return SplatView(matrix, 1.3 * width, 1.25 * width, 0.52 * width, 0.47 * height, width, height)


def leaves(gaussians: Gaussians, view: SplatView) -> list[Tensor]:
    """The six differentiable tensors, of which gradients are required from now on."""
    found = [*(getattr(gaussians, each.name) for each in fields(gaussians)), view.world_to_camera]
    return [each.requires_grad_() for each in found]


def joined(raster: Raster) -> Tensor:
    """(h, w, 5): colour, opacity and depth."""
    return torch.cat([raster.colour, raster.opacity[..., None], raster.depth[..., None]], dim=-1)


def converted(gaussians: Gaussians, view: SplatView, dtype: torch.dtype) -> tuple[Gaussians, SplatView]:
    """Copies of another type."""
    matrix, *others = astuple(view)
    return (
        Gaussians(*(getattr(gaussians, each.name).detach().to(dtype) for each in fields(gaussians))),
        SplatView(matrix.detach().to(dtype), *others),
    )
