"""Every Triton kernel against its reference on the device, and then against the clock."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.kernels.grid_layout import grid_layout
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import (
    Composited,
    FaceState,
    FrameSamples,
    Gate,
    Gaussians,
    MarchInput,
    MlpWeights,
)
from scripts.benchmarks.ceilings import Ceilings, Work, kernel_milliseconds, measure_ceilings
from scripts.benchmarks.gaussians import front_view, shell
from scripts.benchmarks.timing import fastest

PROFILED = 5
"""Runs under the profiler."""

PER_RAY = ("origins", "directions", "near", "far", "jitter")
"""Of a `MarchInput`."""

Numbers = Callable[[], tuple[Tensor, ...]]
"""Results and gradients."""


@dataclass(frozen=True)
class KernelSizes:
    """How much the kernels are given."""

    points: int = 262_144
    """Points encoded, samples given to networks."""
    rays: int = 16_384
    """Rays marched and composited."""
    gaussians: int = 2_000
    """Gaussians rasterised; the reference computes each at each pixel."""
    picture: int = 256
    """Side of their picture, px."""


@dataclass(frozen=True)
class Check:
    """A kernel and what it must agree with."""

    name: str
    ours: Numbers
    reference: Numbers
    tolerance: float
    """Largest difference that rounding explains, relative to the largest number."""
    work: Work
    """Lower bound of its work."""


@dataclass(frozen=True)
class KernelResult:
    """How a kernel agreed with its reference, and the time of both."""

    difference: float
    """Largest absolute difference of results and gradients, relative to the largest number of each (at least 1)."""
    tolerance: float
    milliseconds: float
    """With the host that starts the kernels."""
    reference_milliseconds: float
    kernel_milliseconds: float | None
    """Of the kernels alone; None without a CUDA device."""
    ceiling: tuple[str, float] | None
    """Its ceiling, and the fraction of it that is reached; None without a CUDA device."""


@dataclass(frozen=True)
class KernelResults:
    """All kernels."""

    results: dict[str, KernelResult]
    ceilings: Ceilings | None
    """Of the device; None without a CUDA device."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        kernels = {name: vars(result) for name, result in self.results.items()}
        return {"kernels": kernels, "ceilings": vars(self.ceilings) if self.ceilings else None}

    def table(self) -> Table:
        """A row for each."""
        table = Table(title="Triton kernels, forward and backward, beside their torch references")
        columns = ("", "difference", "allowed", "ms", "reference ms", "times as fast", "kernels' ms", "of the ceiling")
        for column in columns:
            table.add_column(column, justify="right" if column else "left")
        for name, result in self.results.items():
            style = "" if result.difference <= result.tolerance else "red"
            times = (result.milliseconds, result.reference_milliseconds)
            ratio = f"{times[1] / times[0]:.1f}x"
            difference, allowed = f"{result.difference:.1e}", f"{result.tolerance:.0e}"
            alone = "-" if result.kernel_milliseconds is None else f"{result.kernel_milliseconds:.3f}"
            reached = "-" if result.ceiling is None else f"{result.ceiling[1]:.0%} {result.ceiling[0]}"
            cells = (difference, allowed, *(f"{each:.3f}" for each in times), ratio, alone, reached)
            table.add_row(name, *cells, style=style)
        if (found := self.ceilings) is not None:
            copied, products = 1e-9 * found.bytes_per_second, (found.float32_flops, found.float16_flops)
            singles, halves = (f"{1e-12 * each:,.0f}" for each in products)
            table.caption = (
                f"Ceilings measured here: memory {copied:,.0f} GB/s, products {singles} (float32) and {halves} TFLOP/s "
                "(float16)."
            )
        return table

    def require_agreement(self) -> None:
        """Makes a difference that rounding does not explain an error.

        Raises:
            NTalkerError: there is one; names the kernels.
        """
        wrong = [name for name, result in self.results.items() if not result.difference <= result.tolerance]
        if wrong:
            raise NTalkerError(f"These kernels differ from their references: {', '.join(wrong)}; please report it.")


def measure_kernels(sizes: KernelSizes, device: torch.device, repeats: int) -> KernelResults:
    """Compares and times every Triton kernel.

    Args:
        sizes: how much they are given.
        device: a CUDA device, or the CPU in Triton's interpreter.
        repeats: rounds; the fastest counts.

    Raises:
        NTalkerError: there is no CUDA device.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise NTalkerError("The section kernels needs a CUDA device; leave it out on the CPU.")
    torch.manual_seed(0)
    checks = [
        _hash_grid(3, torch.float32, 1e-4, sizes, device),
        _hash_grid(2, torch.float32, 1e-4, sizes, device),
        _hash_grid(3, torch.float16, 5e-3, sizes, device),
        _boxes(sizes, device),
        _marching(sizes, device),
        _capacity(sizes, device),
        _compositing(sizes, device),
        _gates(sizes, device),
        _poses(sizes, device),
        _inverse_warp(sizes, device),
        _harmonics(sizes, device),
        _rasterisation(sizes, device),
        # In float32 torch's layers are quicker, so that only half precision is measured.
        _network((65, 64, 64, 65), sizes, device),
        _network((80, 64, 3), sizes, device),
    ]
    differences = {check.name: _difference(check.ours(), check.reference()) for check in checks}
    cases = {(check.name, who): getattr(check, who) for check in checks for who in ("ours", "reference")}
    times = fastest(cases, repeats, device, "Triton kernels")
    ceilings = measure_ceilings(device, repeats) if device.type == "cuda" else None
    alone = kernel_milliseconds({check.name: check.ours for check in checks}, device, PROFILED)

    def result(check: Check) -> KernelResult:
        milliseconds = alone.get(check.name)
        reached = ceilings.fraction(check.work, milliseconds) if ceilings and milliseconds else None
        both = (times[check.name, "ours"], times[check.name, "reference"])
        return KernelResult(differences[check.name], check.tolerance, *both, milliseconds, reached)

    return KernelResults({check.name: result(check) for check in checks}, ceilings)


def _difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference, relative to the tensor's largest number or to 1; infinite where shapes differ."""
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if one.numel():
            scale = max(1.0, float(other.double().abs().max()))
            worst = max(worst, float((one.double() - other.double()).abs().max()) / scale)
    return worst


def _both(device: torch.device) -> tuple[Ops, Ops]:
    """Triton's operations and the reference's."""
    return Ops(device, "triton"), Ops(device, "reference")


def _hash_grid(dims: int, kind: torch.dtype, tolerance: float, sizes: KernelSizes, device: torch.device) -> Check:
    layout = grid_layout(dims, 16, 2, 16, 2048, 16)
    points = torch.rand(sizes.points, dims, device=device, requires_grad=True)
    table = torch.randn(layout.total_entries, 2, device=device).to(kind).requires_grad_()
    upstream = torch.randn(sizes.points, layout.output_width, device=device)

    def numbers(ops: Ops) -> tuple[Tensor, ...]:
        features = ops.encode(points, table, layout, layout.num_levels)
        return features, *torch.autograd.grad(features, (points, table), upstream.to(features.dtype))

    name = f"hash grid {dims}D, {str(kind).removeprefix('torch.')} table"
    # Points are read by both passes and have a gradient; the table is read by both and has one; features and theirs.
    work = Work(3 * points.nbytes + 3 * table.nbytes + 2 * sizes.points * layout.output_width * kind.itemsize)
    ours, reference = _both(device)
    return Check(name, lambda: numbers(ours), lambda: numbers(reference), tolerance, work)


def _march_input(sizes: KernelSizes, device: torch.device) -> MarchInput:
    origins = torch.nn.functional.normalize(torch.randn(sizes.rays, 3, device=device), dim=1) * 3.0
    directions = torch.nn.functional.normalize(torch.rand_like(origins) - 0.5 - origins, dim=1)
    near, far = Ops(device, "reference").intersect_box(origins, directions)
    occupied = torch.rand(128, 128, 128, device=device) < 0.1
    # Sums of eighths are exact in any order.
    return MarchInput(origins, directions, near, far, occupied, 0.0125, torch.rand_like(near), 32)


def _boxes(sizes: KernelSizes, device: torch.device) -> Check:
    given = _march_input(sizes, device)
    rays, box = (given.origins, given.directions), (-torch.rand(3, device=device), torch.rand(3, device=device))
    ours, plain = (ops.intersect_box for ops in _both(device))
    work = Work(sum(each.nbytes for each in (*rays, given.near, given.far)))
    return Check("boxes around rays", lambda: ours(*rays, *box), lambda: plain(*rays, *box), 0.0, work)


def _marching(sizes: KernelSizes, device: torch.device) -> Check:
    given = _march_input(sizes, device)

    def numbers(ops: Ops) -> tuple[Tensor, ...]:
        samples = ops.march(given)
        return samples.starts, samples.ray_counts

    ours, reference = _both(device)
    work = Work(_read(given) + 4 * len(ours.march(given).starts))
    return Check("marching", lambda: numbers(ours), lambda: numbers(reference), 0.0, work)


def _read(given: MarchInput) -> int:
    """Bytes of rays and of the occupied cells."""
    return sum(getattr(given, name).nbytes for name in (*PER_RAY, "occupied"))


def _capacity(sizes: KernelSizes, device: torch.device) -> Check:
    given, frames = _march_input(sizes, device), 4
    rays = sizes.rays // frames * frames
    given = MarchInput(*(each[:rays] if name in PER_RAY else each for name, each in given._asdict().items()))
    ours, reference = _both(device)
    # Too small for some frames and too large for others.
    capacity = max(int(ours.march(given).ray_counts.view(frames, -1).sum(dim=1).median()), 1)

    def numbers(samples: FrameSamples) -> tuple[Tensor, ...]:
        return samples.starts, samples.rays, samples.ray_counts, samples.ray_ends

    # A distance and a ray's number for each sample.
    work = Work(_read(given) + 12 * frames * capacity)
    return Check(
        "marching to a capacity",
        lambda: numbers(ours.march_to_capacity(given, frames, capacity)),
        lambda: numbers(reference.march_to_capacity(given, frames, capacity)),
        0.0,
        work,
    )


def _compositing(sizes: KernelSizes, device: torch.device) -> Check:
    counts = torch.randint(0, 33, (sizes.rays,), device=device)
    total = int(counts.sum())
    density = (20.0 * torch.rand(total, device=device)).requires_grad_()
    distances = 3.0 + 0.0125 * torch.arange(total, device=device)
    values = torch.rand(total, 3, device=device, requires_grad=True)
    of_rays = [torch.randn(sizes.rays, 1, device=device) for _ in range(3)]
    upstream = (torch.randn(sizes.rays, 3, device=device), *of_rays, torch.randn(total, device=device))

    def numbers(results: Composited) -> tuple[Tensor, ...]:
        return *results, *torch.autograd.grad(results, (density, values), upstream)

    given = (density, values, distances, 0.0125, counts)
    ours, reference = (ops.composite for ops in _both(device))
    # Both passes read samples; weights are written, theirs are given; sample and ray have gradients or sums.
    work = Work(2 * (density.nbytes + distances.nbytes + values.nbytes + 4 * total) + density.nbytes + values.nbytes)
    return Check("compositing", lambda: numbers(ours(*given)), lambda: numbers(reference(*given)), 1e-4, work)


def _gates(sizes: KernelSizes, device: torch.device) -> Check:
    gate = Gate(((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2)), inner=0.2, outer=0.5)
    points = (1.6 * torch.rand(sizes.points, 3, device=device) - 0.8).requires_grad_()
    exact = points.detach().double().requires_grad_()
    upstream = torch.randn(sizes.points, 1, device=device)

    def numbers(ops: Ops, at: Tensor) -> tuple[Tensor, ...]:
        found = ops.gate(at, gate)
        return found, *torch.autograd.grad(found, at, upstream.to(found.dtype))

    ours, reference = _both(device)
    work = Work(3 * points.nbytes + 8 * sizes.points)
    return Check("gate", lambda: numbers(ours, points), lambda: numbers(reference, exact), 1e-4, work)


def _poses(sizes: KernelSizes, device: torch.device) -> Check:
    counts = [sizes.points // 3, sizes.points - sizes.points // 3]
    points, corrections = torch.randn(sizes.points, 3, device=device), 0.3 * torch.randn(2, 6, device=device)
    exact, upstream = corrections.double().requires_grad_(), torch.randn_like(points)
    corrections.requires_grad_()

    def numbers(moved: Tensor, by: Tensor) -> tuple[Tensor, ...]:
        return moved, *torch.autograd.grad(moved, by, upstream.to(moved.dtype))

    ours, reference = (ops.correct_poses for ops in _both(device))
    return Check(
        "pose corrections",
        lambda: numbers(ours(points, corrections, counts), corrections),
        # Float32 sums of so many numbers differ by more than their last bits, whoever adds them.
        lambda: numbers(reference(points.double(), exact, counts), exact),
        1e-4,
        Work(4 * points.nbytes),
    )


def _inverse_warp(sizes: KernelSizes, device: torch.device) -> Check:
    counts = [sizes.points // 3, sizes.points - sizes.points // 3]
    centers = ((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2))
    gates = (Gate(centers, inner=0.2, outer=0.5), Gate(centers, inner=0.1, outer=0.6))
    warps = [
        LandmarkWarp(0.2 * np.random.randn(60, 2), 0.05 * np.random.randn(3, 60, 2), softness=0.05).to(device)
        for _ in range(2)
    ]
    columns = np.linspace(-0.3, 0.3, 12)
    lids = np.stack(
        [np.stack([columns + at, 0 * columns - 0.1, 0 * columns, 0 * columns + 0.3], 1) for at in (-0.3, 0.3)]
    )
    shapes = torch.randn(2, 3, dtype=torch.float64, device=device)
    points = 1.2 * torch.rand(sizes.points, 3, device=device) - 0.6
    # As along rays, runs of samples are near the lips and others are not.
    speech = torch.rand(sizes.points, 1, device=device)
    speech = torch.where(torch.arange(sizes.points, device=device)[:, None] % 1024 < 512, speech, 0.0)
    lips, brows = (warp(shapes) for warp in warps)
    openness = torch.tensor([0.3, 0.8], device=device)
    face = FaceState(*gates, lips, brows, torch.from_numpy(lids).to(device), openness)
    ours, reference = (ops.inverse_warp for ops in _both(device))
    return Check(
        "inverse warp",
        lambda: ours(points, speech, counts, face),
        lambda: reference(points.double(), speech.double(), counts, face),
        1e-4,
        Work(2 * points.nbytes + 2 * speech.nbytes),
    )


def _harmonics(sizes: KernelSizes, device: torch.device) -> Check:
    directions = torch.nn.functional.normalize(torch.randn(sizes.points, 3, device=device), dim=1)
    ours, reference = (ops.spherical_harmonics for ops in _both(device))
    work = Work(directions.nbytes + 4 * 16 * sizes.points)
    return Check("spherical harmonics", lambda: (ours(4, directions),), lambda: (reference(4, directions),), 1e-5, work)


def _rasterisation(sizes: KernelSizes, device: torch.device) -> Check:
    count, size = sizes.gaussians, sizes.picture
    view = front_view(size, device)
    given = [*vars(shell(count, device)).values(), view.world_to_camera]
    upstream = [torch.randn(size, size, 3, device=device), *torch.randn(2, size, size, device=device)]

    def numbers(ops: Ops, kind: torch.dtype) -> Numbers:
        tensors = [each.to(kind).requires_grad_() for each in given]
        seen = replace(view, world_to_camera=tensors[5])

        def run() -> tuple[Tensor, ...]:
            raster = ops.rasterise(Gaussians(*tensors[:5]), seen)
            results = (raster.colour, raster.opacity, raster.depth)
            gradients = torch.autograd.grad(results, tensors, [each.to(kind) for each in upstream])
            return *(each.detach() for each in results), *gradients

        return run

    ours, reference = _both(device)
    # Pictures and their gradients; the Gaussians twice, and their gradients.
    work = Work(2 * sum(each.nbytes for each in upstream) + 3 * sum(each.nbytes for each in given))
    name = f"rasterisation, {count} Gaussians"
    return Check(name, numbers(ours, torch.float32), numbers(reference, torch.float64), 1e-3, work)


def _network(widths: tuple[int, ...], sizes: KernelSizes, device: torch.device) -> Check:
    weights = [torch.randn(b, a, device=device) / a**0.5 for a, b in pairwise(widths)]
    # So large that no hidden value is near 0, where rounding decides whether it has a gradient.
    biases = [8.0 * 4.0**i * torch.randn(width, device=device).sign() for i, width in enumerate(widths[1:])]
    counts = [sizes.points // 3, sizes.points - sizes.points // 3]
    samples, frames = torch.randn(sizes.points, widths[0], device=device), torch.randn(2, 8, device=device)
    frame_weight, gates = torch.randn(widths[1], 8, device=device), torch.rand(sizes.points, 1, device=device)
    tensors = [each.requires_grad_() for each in (samples, frames, frame_weight, gates, *weights, *biases)]
    upstream = torch.randn(sizes.points, widths[-1], device=device)
    network = MlpWeights(weights, biases, frame_weight)

    def numbers(ops: Ops) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.float16):
            out = ops.run_mlp(samples, network, frames, counts, gates)
        return out, *torch.autograd.grad(out, tensors, upstream.to(out.dtype))

    ours, reference = _both(device)
    name = f"network {'-'.join(map(str, widths))}, float16"
    # Samples are read by both passes and have a gradient; what comes out has one; three products for each layer.
    moved = 2 * (3 * widths[0] + 2 * widths[-1]) * sizes.points
    work = Work(moved, 6 * sizes.points * sum(weight.numel() for weight in weights), half=True)
    return Check(name, lambda: numbers(ours), lambda: numbers(reference), 2e-2, work)
