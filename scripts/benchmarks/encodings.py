"""The hash grid's backends beside nerfstudio's torch encoding."""

from dataclasses import dataclass
from typing import get_args

import torch
from rich.table import Table
from torch import Tensor, nn

from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.kernels.backend import Backend, unavailable
from ntalker_ns.kernels.ops import Ops
from scripts.benchmarks.timing import Run, fastest

PEER = "nerfstudio torch 3D"
"""nerfstudio's `HashEncoding(implementation="torch")`."""

PASSES = ("forward", "+ backward to table", "+ to coordinates")


@dataclass(frozen=True)
class EncodingSizes:
    """Sizes of the inputs and grids."""

    points: int = 65_536
    """Points encoded at once."""
    levels: int = 16
    """Levels of the grids, of 2 features each."""
    max_resolution: int = 2048
    """Cells along an edge of the finest level."""
    log2_hashmap_size: int = 16
    """Binary logarithm of the most entries a level may have."""


@dataclass(frozen=True)
class EncodingSpeed:
    """Milliseconds of each encoding."""

    milliseconds: dict[str, dict[str, float]]
    """By encoding, then by pass."""
    left_out: dict[str, str]
    """Why a backend was not measured, by its name."""

    def to_dict(self) -> dict[str, object]:
        """Plain values: milliseconds, ratios to the peer, and what was left out."""
        return {**vars(self), "times_the_speed_of_nerfstudio": self.ratios()}

    def ratios(self) -> dict[str, dict[str, float]]:
        """How many times as fast as the peer each encoding is."""
        peer = self.milliseconds[PEER]
        return {
            name: {each: peer[each] / figures[each] for each in PASSES} for name, figures in self.milliseconds.items()
        }

    def table(self) -> Table:
        """Milliseconds, and in brackets how many times as fast as the peer."""
        table = Table(title=f"Hash grids: milliseconds (times the speed of {PEER})")
        table.add_column("encoding")
        for column in PASSES:
            table.add_column(column, justify="right")
        for name, ratios in self.ratios().items():
            figures = self.milliseconds[name]
            table.add_row(name, *(f"{figures[each]:.2f} ({ratios[each]:.1f}x)" for each in PASSES))
        if self.left_out:
            table.caption = "; ".join(f"{name} left out: {reason}" for name, reason in self.left_out.items())
        return table


def measure_encodings(sizes: EncodingSizes, device: torch.device, repeats: int) -> EncodingSpeed:
    """Times every backend that the device has, forward and backward.

    Args:
        sizes: what is encoded.
        device: where.
        repeats: rounds; the fastest counts.
    """
    backends = [name for name in get_args(Backend) if name != "auto"]
    left_out = {name: reason for name in backends if (reason := unavailable(name, device.type))}
    points = torch.rand(sizes.points, 3, device=device)
    flat = points[:, :2].contiguous()
    encodings: dict[str, tuple[nn.Module, Tensor]] = {PEER: (_peer(sizes).to(device), points)}
    for backend in backends:
        if backend in left_out:
            continue
        encodings[f"{backend} 3D"] = (_grid(3, sizes, device, backend), points)
        if backend != "reference":
            encodings[f"{backend} 2D"] = (_grid(2, sizes, device, backend), flat)
        if backend in ("triton", "tcnn"):
            encodings[f"{backend} 3D, float16 table"] = (_grid(3, sizes, device, backend).half(), points)
    cases = {(name, title): run for name, each in encodings.items() for title, run in _passes(*each).items()}
    times = fastest(cases, repeats, device, "Hash grids")
    return EncodingSpeed({name: {title: times[name, title] for title in PASSES} for name in encodings}, left_out)


def _peer(sizes: EncodingSizes) -> nn.Module:
    from nerfstudio.field_components.encodings import HashEncoding

    return HashEncoding(
        num_levels=sizes.levels,
        max_res=sizes.max_resolution,
        log2_hashmap_size=sizes.log2_hashmap_size,
        implementation="torch",
    )


def _grid(dims: int, sizes: EncodingSizes, device: torch.device, backend: Backend) -> HashGrid:
    return HashGrid(
        Ops(device, backend),
        dims,
        num_levels=sizes.levels,
        max_resolution=sizes.max_resolution,
        log2_hashmap_size=sizes.log2_hashmap_size,
    ).to(device)


def _passes(encoding: nn.Module, points: Tensor) -> dict[str, Run]:
    """What is timed of an encoding, by title."""
    moving = points.clone().requires_grad_()
    upstream = torch.randn_like(encoding(points).detach())

    def backward(inputs: Tensor) -> None:
        encoding.zero_grad()
        moving.grad = None
        encoding(inputs).backward(upstream)

    forward = torch.no_grad()(lambda: encoding(points))
    return dict(zip(PASSES, (forward, lambda: backward(points), lambda: backward(moving)), strict=True))
