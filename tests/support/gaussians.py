"""Random Gaussians in front of a camera."""

import math
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from ntalker_ns.kernels.reference import splats as reference
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
    return (
        Gaussians(*(getattr(gaussians, each.name).detach().to(dtype) for each in fields(gaussians))),
        replace(view, world_to_camera=view.world_to_camera.detach().to(dtype)),
    )


Rasteriser = Callable[..., Raster]


def assert_equal(
    rasterise: Rasteriser, gaussians: Gaussians, view: SplatView, device: torch.device | str = "cpu"
) -> Raster:
    """A kernel's picture, gradients and norms of screen gradients are the dense reference's; returns the picture.

    Args:
        rasterise: the kernel.
        gaussians: of any type.
        view: the camera.
        device: where the kernel runs.
    """
    # Both are given the same numbers.
    ours, theirs = (
        converted(*converted(gaussians, view, torch.float32), kind) for kind in (torch.float32, torch.float64)
    )
    ours = moved(*ours, device)
    norms = torch.zeros(len(gaussians.means), device=device), torch.zeros(len(gaussians.means), dtype=torch.float64)
    given = leaves(*ours), leaves(*theirs)
    found, expected = rasterise(*ours, norms[0]), reference.rasterise(*theirs, norms[1])
    upstream = torch.randn(joined(expected).shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    joined(found).backward(upstream.to(device, torch.float32))
    joined(expected).backward(upstream)
    torch.testing.assert_close(joined(found).detach().double().cpu(), joined(expected).detach(), rtol=0, atol=1e-4)
    pairs = [(one.grad, other.grad) for one, other in zip(*given, strict=True)]
    for one, other in (*pairs, norms):
        assert one is not None
        other = torch.zeros(one.shape, dtype=torch.float64) if other is None else other
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one.double().cpu(), other, rtol=0, atol=1e-3 * scale + 1e-12)
    return found


def side_by_side(count: int, size: float = -3.0) -> Gaussians:
    """Gaussians whose depths in `view_of` are the same to the last digits of float32, as many of a trained head are."""
    gaussians = random_gaussians(count, seed=9, size=size)
    rotation = view_of(1, 1).world_to_camera[:, :3]
    places = gaussians.means @ rotation.T
    places[:, 2] = torch.arange(count) % 3 * 1e-7
    # A third of them lie where others lie.
    places[2::3] = places[::3][: len(places[2::3])]
    gaussians.means[:] = places @ rotation
    return gaussians


def moved(gaussians: Gaussians, view: SplatView, device: torch.device | str) -> tuple[Gaussians, SplatView]:
    """Copies on a device."""
    on_device = Gaussians(*(getattr(gaussians, each.name).to(device) for each in fields(gaussians)))
    return on_device, replace(view, world_to_camera=view.world_to_camera.to(device))


def adversarial() -> dict[str, tuple[Gaussians, SplatView]]:
    """Scenes that break careless kernels, by name."""
    wide, tiny = view_of(35, 21), view_of(8, 8)
    behind = random_gaussians(60, seed=1)
    behind.means[::2, 2] += 4.0
    enormous = random_gaussians(30, seed=2, size=2.0)
    near = random_gaussians(40, seed=3, size=-4.0)
    near.means[:, 2] = 2.9
    degenerate = random_gaussians(60, seed=4)
    degenerate.log_scales[::3, 0], degenerate.log_scales[1::3] = -math.inf, -math.inf
    degenerate.quaternions[::4], degenerate.quaternions[1::4] = 0.0, degenerate.quaternions[1::4] * 1e-8
    degenerate.log_scales[5], degenerate.means[7, 1], degenerate.opacity_logits[11] = 500.0, math.nan, math.nan
    covered = random_gaussians(200, seed=5, size=1.0)
    covered.opacity_logits[:] = 9.0
    needles = random_gaussians(60, seed=6)
    needles.log_scales[:, 0], needles.log_scales[:, 1:] = 1.0, -9.0
    aside = random_gaussians(60, seed=8, size=0.0)
    aside.means[:, 0] += 4.0
    return {
        "behind the camera": (behind, wide),
        "enormous": (enormous, wide),
        "at the near plane": (near, wide),
        "degenerate": (degenerate, wide),
        "fully covered": (covered, wide),
        "needles": (needles, wide),
        "beside the picture": (aside, wide),
        "none": (random_gaussians(0), wide),
        "one": (random_gaussians(1), wide),
        "of equal depth": (side_by_side(300), wide),
        "8 px": (random_gaussians(60), tiny),
        "wider than a strip": (random_gaussians(100, size=-3.5), view_of(161, 33)),
        "higher than wide": (random_gaussians(100, size=-3.5), view_of(17, 70)),
    }
