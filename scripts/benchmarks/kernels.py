"""Every Triton kernel against its reference on the device, and then against the clock."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from nerfstudio.utils.math import components_from_spherical_harmonics
from rich.table import Table
from torch import Tensor

from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.hash_grid import Encode
from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.field.lid_fold import LidFold
from ntalker_ns.field.ragged import add_per_frame, expand_per_frame
from ntalker_ns.kernels.face import Face
from ntalker_ns.kernels.face_state import Gate
from ntalker_ns.kernels.grid_layout import grid_layout
from ntalker_ns.kernels.lattice import Lattice
from ntalker_ns.kernels.reference import hash_grid as reference_hash_grid
from ntalker_ns.kernels.reference.compositing import composite_torch
from ntalker_ns.kernels.reference.marching import intersect_box_torch, march_torch
from ntalker_ns.kernels.reference.poses import apply_per_frame_torch
from ntalker_ns.rendering.packed_samples import fit, pack
from scripts.benchmarks.ceilings import Ceilings, Work, kernel_milliseconds, measure_ceilings
from scripts.benchmarks.timing import fastest

PROFILED = 5
"""How often kernels run under the profiler."""

PER_RAY = ("origins", "directions", "near", "far", "jitter")
"""Of a lattice."""

Numbers = Callable[[], tuple[Tensor, ...]]
"""Results and gradients."""


@dataclass(frozen=True)
class KernelSizes:
    """How much the kernels are given."""

    points: int = 262_144
    """Points encoded, samples given to networks."""
    rays: int = 16_384
    """Rays marched and composited."""


@dataclass(frozen=True)
class Check:
    """A kernel and what it must agree with."""

    name: str
    ours: Numbers
    reference: Numbers
    tolerance: float
    """Largest difference that rounding explains, relative to the largest number."""
    work: Work
    """The least that it has to do."""


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
    """What bounds it, and the share of that which is reached; None without a CUDA device."""


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
        _rooms(sizes, device),
        _compositing(sizes, device),
        _gates(sizes, device),
        _poses(sizes, device),
        _bending(sizes, device),
        _harmonics(sizes, device),
        # In float32 nobody runs them: torch's layers are quicker, see `network_backend`.
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
        reached = ceilings.share(check.work, milliseconds) if ceilings and milliseconds else None
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


def _hash_grid(dims: int, kind: torch.dtype, tolerance: float, sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import hash_grid as triton_hash_grid

    layout = grid_layout(dims, 16, 2, 16, 2048, 16)
    points = torch.rand(sizes.points, dims, device=device, requires_grad=True)
    table = torch.randn(layout.total_entries, 2, device=device).to(kind).requires_grad_()
    upstream = torch.randn(sizes.points, layout.output_width, device=device)

    def numbers(encode: Encode) -> tuple[Tensor, ...]:
        features = encode(points, table, layout, layout.num_levels)
        return features, *torch.autograd.grad(features, (points, table), upstream.to(features.dtype))

    name = f"hash grid {dims}D, {str(kind).removeprefix('torch.')} table"
    # Points are read by both passes and have a gradient; the table is read by both and has one; features and theirs.
    work = Work(3 * points.nbytes + 3 * table.nbytes + 2 * sizes.points * layout.output_width * kind.itemsize)
    return Check(
        name, lambda: numbers(triton_hash_grid.encode), lambda: numbers(reference_hash_grid.encode), tolerance, work
    )


def _lattice(sizes: KernelSizes, device: torch.device) -> Lattice:
    origins = torch.nn.functional.normalize(torch.randn(sizes.rays, 3, device=device), dim=1) * 3.0
    directions = torch.nn.functional.normalize(torch.rand_like(origins) - 0.5 - origins, dim=1)
    near, far = intersect_box_torch(origins, directions)
    occupied = torch.rand(128, 128, 128, device=device) < 0.1
    # Sums of eighths are exact in any order.
    return Lattice(origins, directions, near, far, occupied, 0.0125, torch.rand_like(near), 32)


def _boxes(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import marching as triton_marching

    lattice = _lattice(sizes, device)
    rays, box = (lattice.origins, lattice.directions), (-torch.rand(3, device=device), torch.rand(3, device=device))
    ours, plain = triton_marching.intersect_box, intersect_box_torch
    work = Work(sum(each.nbytes for each in (*rays, lattice.near, lattice.far)))
    return Check("boxes around rays", lambda: ours(*rays, *box), lambda: plain(*rays, *box), 0.0, work)


def _marching(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import marching as triton_marching

    lattice = _lattice(sizes, device)

    def dense() -> tuple[Tensor, ...]:
        samples = march_torch(lattice)
        return samples.starts, samples.ray_counts

    samples = int(triton_marching.count(lattice).sum())
    return Check("marching", lambda: triton_marching.march(*lattice), dense, 0.0, Work(_read(lattice) + 4 * samples))


def _read(lattice: Lattice) -> int:
    """Bytes of rays and of the occupied cells."""
    return sum(getattr(lattice, name).nbytes for name in (*PER_RAY, "occupied"))


def _rooms(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import marching as triton_marching

    lattice, frames = _lattice(sizes, device), 4
    rays = sizes.rays // frames * frames
    lattice = Lattice(*(each[:rays] if name in PER_RAY else each for name, each in lattice._asdict().items()))
    # Too small for some frames and too large for others.
    size = max(int(triton_marching.count(lattice).view(frames, -1).sum(dim=1).median()), 1)

    def empty() -> tuple[Tensor, Tensor]:
        places = torch.zeros(frames * size, device=device)
        return places, places.long()

    def ours() -> tuple[Tensor, ...]:
        kept, ends = fit(triton_marching.count(lattice), frames, size)
        rooms = empty()
        triton_marching.write(lattice, kept, ends, *rooms)
        return *rooms, kept, ends

    def dense() -> tuple[Tensor, ...]:
        samples = march_torch(lattice)
        kept, ends = fit(samples.ray_counts, frames, size)
        return *pack(samples, kept, ends, *empty()), kept, ends

    # A place and a ray's number for each sample.
    work = Work(_read(lattice) + 12 * frames * size)
    return Check("marching into rooms", ours, dense, 0.0, work)


def _compositing(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import compositing as triton_compositing

    counts = torch.randint(0, 33, (sizes.rays,), device=device)
    total = int(counts.sum())
    density = (20.0 * torch.rand(total, device=device)).requires_grad_()
    distances = 3.0 + 0.0125 * torch.arange(total, device=device)
    values = torch.rand(total, 3, device=device, requires_grad=True)
    of_rays = [torch.randn(sizes.rays, device=device) for _ in range(3)]
    upstream = (torch.randn(sizes.rays, 3, device=device), *of_rays, torch.randn(total, device=device))
    packed = (distances, 0.0125, counts)

    def with_gradients(results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return *results, *torch.autograd.grad(results, (density, values), upstream)

    def padded() -> tuple[Tensor, ...]:
        summed, *of_rays, weights = composite_torch(density, values, *packed)
        return with_gradients((summed, *(each.squeeze(1) for each in of_rays), weights))

    return Check(
        "compositing",
        lambda: with_gradients(triton_compositing.composite(density, values, *packed)),
        padded,
        1e-4,
        # Both passes read samples; weights are written, theirs are given; sample and ray have gradients or sums.
        Work(2 * (density.nbytes + distances.nbytes + values.nbytes + 4 * total) + density.nbytes + values.nbytes),
    )


def _gates(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import warp as triton_warp

    gate = Gate(((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2)), inner=0.2, outer=0.5)
    points = (1.6 * torch.rand(sizes.points, 3, device=device) - 0.8).requires_grad_()
    exact = points.detach().double().requires_grad_()
    upstream = torch.randn(sizes.points, 1, device=device)

    def numbers(found: Tensor, at: Tensor) -> tuple[Tensor, ...]:
        return found, *torch.autograd.grad(found, at, upstream.to(found.dtype))

    return Check(
        "gate",
        lambda: numbers(triton_warp.gate(points, gate), points),
        # In double precision a gate is computed by torch, operation by operation.
        lambda: numbers(gate(exact), exact),
        1e-4,
        Work(3 * points.nbytes + 8 * sizes.points),
    )


def _poses(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import poses as triton_poses

    counts = [sizes.points // 3, sizes.points - sizes.points // 3]
    points, corrections = torch.randn(sizes.points, 3, device=device), 0.3 * torch.randn(2, 6, device=device)
    exact, upstream = corrections.double().requires_grad_(), torch.randn_like(points)
    corrections.requires_grad_()

    def numbers(moved: Tensor, by: Tensor) -> tuple[Tensor, ...]:
        return moved, *torch.autograd.grad(moved, by, upstream.to(moved.dtype))

    return Check(
        "pose corrections",
        lambda: numbers(triton_poses.apply_per_frame(points, corrections, counts), corrections),
        # Float32 sums of so many numbers differ by more than their last bits, whoever adds them.
        lambda: numbers(apply_per_frame_torch(points.double(), exact, counts), exact),
        1e-4,
        Work(4 * points.nbytes),
    )


def _bending(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import warp as triton_warp

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
    fold = LidFold(lids).to(device)
    shapes, openness = (
        torch.randn(2, 3, dtype=torch.float64, device=device),
        torch.tensor([[0.3], [0.8]], device=device),
    )
    points = 1.2 * torch.rand(sizes.points, 3, device=device) - 0.6
    # As along rays, runs of samples are near the lips and others are not.
    speech = torch.rand(sizes.points, 1, device=device)
    speech = torch.where(torch.arange(sizes.points, device=device)[:, None] % 1024 < 512, speech, 0.0)
    lips, brows = (warp.landmarks(shapes) for warp in warps)
    face = Face(*gates, lips, brows, fold.lids, openness.view(-1))

    def torch_numbers() -> tuple[Tensor, ...]:
        exact = points.double()
        shift = -speech * warps[0](exact, shapes, counts) - gates[0](exact) * warps[1](exact, shapes, counts)
        opened = expand_per_frame(openness.double(), counts)
        shift[:, 2:] += gates[1](exact) * fold(exact + shift, opened)[:, None]
        return shift, gates[1](exact) * (1.0 - opened)

    work = Work(2 * points.nbytes + 2 * speech.nbytes)
    return Check("bending", lambda: triton_warp.calm(points, speech, counts, face), torch_numbers, 1e-4, work)


def _harmonics(sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import harmonics as triton_harmonics

    directions = torch.nn.functional.normalize(torch.randn(sizes.points, 3, device=device), dim=1)
    return Check(
        "spherical harmonics",
        lambda: (triton_harmonics.spherical_harmonics(4, directions),),
        lambda: (components_from_spherical_harmonics(4, directions),),
        1e-5,
        Work(directions.nbytes + 4 * 16 * sizes.points),
    )


def _network(widths: tuple[int, ...], sizes: KernelSizes, device: torch.device) -> Check:
    from ntalker_ns.kernels.triton import mlp as triton_mlp

    weights = [torch.randn(b, a, device=device) / a**0.5 for a, b in pairwise(widths)]
    # So large that no hidden value is near 0, where rounding decides whether it has a gradient.
    biases = [8.0 * 4.0**i * torch.randn(width, device=device).sign() for i, width in enumerate(widths[1:])]
    counts = [sizes.points // 3, sizes.points - sizes.points // 3]
    samples, rows = torch.randn(sizes.points, widths[0], device=device), torch.randn(2, widths[1], device=device)
    gates = torch.rand(sizes.points, 1, device=device)
    tensors = [each.requires_grad_() for each in (samples, rows, gates, *weights, *biases)]
    upstream = torch.randn(sizes.points, widths[-1], device=device)

    def layers() -> Tensor:
        hidden = torch.nn.functional.linear(samples, weights[0], biases[0])
        hidden = add_per_frame(hidden, rows.to(hidden.dtype), counts, gates.to(hidden.dtype))
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            hidden = torch.nn.functional.linear(hidden.relu(), weight, bias)
        return hidden

    def numbers(run: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.float16):
            out = run()
        return out, *torch.autograd.grad(out, tensors, upstream.to(out.dtype))

    def fused() -> Tensor:
        return triton_mlp.run_mlp(samples, rows, counts, gates, weights, biases)

    name = f"network {'-'.join(map(str, widths))}, float16"
    # Samples are read by both passes and have a gradient; what comes out has one; three products for each layer.
    moved = 2 * (3 * widths[0] + 2 * widths[-1]) * sizes.points
    work = Work(moved, 6 * sizes.points * sum(weight.numel() for weight in weights), half=True)
    return Check(name, lambda: numbers(fused), lambda: numbers(layers), 2e-2, work)
