"""A head of Gaussians, rasterised: pictures, training steps, and pictures as one CUDA graph."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from rich.table import Table

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import Gaussians, Raster, SplatView
from scripts.benchmarks.timing import Run, fastest

PASSES = ("picture", "picture and gradients", "picture as a graph")


@dataclass(frozen=True)
class GaussianSizes:
    """What is rasterised."""

    counts: tuple[int, ...] = (10_000, 20_000)
    """Gaussians."""
    pictures: tuple[int, ...] = (256, 512)
    """Sides of the pictures, px."""


@dataclass(frozen=True)
class GaussianSpeed:
    """Milliseconds by number of Gaussians, side of the picture and pass."""

    milliseconds: dict[tuple[int, int, str], float]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {f"{count} Gaussians, {size} px, {name}": value for (count, size, name), value in self._sorted()}

    def table(self) -> Table:
        """A row for each number and size."""
        table = Table(title="Gaussians rasterised: milliseconds")
        for column in ("Gaussians", "px", *PASSES):
            table.add_column(column, justify="right")
        for count, size in sorted({key[:2] for key in self.milliseconds}):
            times = (self.milliseconds.get((count, size, name)) for name in PASSES)
            table.add_row(f"{count:,}", str(size), *("-" if each is None else f"{each:.3f}" for each in times))
        return table

    def _sorted(self) -> list[tuple[tuple[int, int, str], float]]:
        return sorted(self.milliseconds.items())


def measure_gaussians(sizes: GaussianSizes, device: torch.device, repeats: int) -> GaussianSpeed:
    """Times the fastest backend of a device; graphs on CUDA only.

    Args:
        sizes: what is rasterised.
        device: where.
        repeats: rounds; the fastest counts.
    """
    torch.manual_seed(0)
    cases: dict[tuple[int, int, str], Run] = {}
    for count in sizes.counts:
        for size in sizes.pictures:
            rasterise, gaussians, view = Ops(device).rasterise, shell(count, device), front_view(size, device)
            runs = (_picture(rasterise, gaussians, view), _step(rasterise, gaussians, view))
            cases |= {(count, size, name): run for name, run in zip(PASSES, runs, strict=False)}
            if device.type == "cuda":
                cases[count, size, PASSES[2]] = _graph(runs[0])
    return GaussianSpeed(fastest(cases, repeats, device, "Gaussians"))


def shell(count: int, device: torch.device) -> Gaussians:
    """Flat Gaussians on an ellipsoid of a head's size, each as wide as the distance to the next, most of them dense.

    Args:
        count: how many.
        device: where.
    """
    outward = torch.nn.functional.normalize(torch.randn(count, 3, device=device), dim=1)
    axes = torch.tensor([0.45, 0.5, 0.6], device=device)
    width = 1.2 * math.sqrt(4.0 * math.pi * 0.27 / max(count, 1))
    scales = torch.tensor([width, width, 0.3 * width], device=device).log() + 0.4 * torch.randn(count, 3, device=device)
    # From z to the direction outward.
    x, y, z = outward.unbind(dim=1)
    quaternions = torch.stack([1.0 + z, -y, x, torch.zeros_like(z)], dim=1)
    logits, colours = 1.0 + 1.5 * torch.randn(count, device=device), torch.rand(count, 3, device=device)
    return Gaussians(outward * axes + 0.01 * torch.randn(count, 3, device=device), scales, quaternions, logits, colours)


def front_view(size: int, device: torch.device) -> SplatView:
    """A camera in which the shell fills most of the picture.

    Args:
        size: of the picture, px.
        device: where.
    """
    matrix = torch.eye(4, device=device)[:3].clone()
    matrix[2, 3] = -3.0
    return SplatView(matrix, 2.4 * size, 2.4 * size, size / 2, size / 2, size, size)


def _picture(rasterise: Callable[..., Raster], gaussians: Gaussians, view: SplatView) -> Run:
    def run() -> Raster:
        with torch.no_grad():
            return rasterise(gaussians, view)

    return run


def _step(rasterise: Callable[..., Raster], gaussians: Gaussians, view: SplatView) -> Run:
    tensors = [getattr(gaussians, each.name).clone().requires_grad_() for each in fields(gaussians)]
    upstream = torch.randn(view.height, view.width, 3, device=view.world_to_camera.device)
    return lambda: torch.autograd.grad(rasterise(Gaussians(*tensors), view).colour, tensors, upstream)


def _graph(run: Run) -> Run:
    """What a run does, recorded."""
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
