"""Breakdown of time: matrix products, encodings, marching, compositing, pixels, the optimiser, everything else."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from rich.table import Table
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile

from scripts.benchmarks.timing import Run, timed

ELSE = "everything else"
"""Time in none of the parts; on the CPU also idle time."""

IDLE = "waiting for the host"
"""Idle time of a CUDA device."""

CPU_PARTS: dict[str, tuple[str, ...]] = {
    "matrix products": (
        *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
        *("aten::convolution", "aten::convolution_backward", "_RunMLP", "_RunMLPBackward"),
    ),
    "encodings": ("_Encode", "_EncodeBackward", "table_gradient"),
    "both in one kernel": ("field", "field_gradients"),
    "marching": ("march",),
    "compositing": ("_Composite", "_CompositeBackward"),
    "drawing pixels": ("next_train",),
    "optimiser": ("Optimizer.step#Adam.step",),
}
"""Operations, with all that they call, by the names that torch's profiler gives them or that they give themselves.
Fused networks count as matrix products with their biases and activations; the torch reference of the hash grids counts
as everything else."""

CUDA_PARTS: dict[str, tuple[str, ...]] = {
    "matrix products": ("gemm", "cutlass", "xmma", "nvjet", "mlp_"),
    "encodings": ("hash_grid_", "kernel_grid"),
    "marching": ("march_",),
    "compositing": ("composite_",),
    "optimiser": ("FusedAdam", "fused_adam"),
}
"""Parts of the names of kernels on a CUDA device."""


def time_breakdown(run: Run, device: torch.device, times: int) -> dict[str, float]:
    """Breakdown of time by torch's profiler, which itself slows execution a little.

    Args:
        run: the code.
        device: where.
        times: number of runs.

    Returns:
        Fraction of the time by part; they add up to 1.
    """
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiler:
        total = timed(run, device, times) * times
    events = profiler.events() or []
    parts = _cuda_seconds(events) if on_cuda else _cpu_seconds(events)
    breakdown = {name: seconds / total for name, seconds in parts.items()}
    remaining = max(1.0 - sum(breakdown.values()), 0.0)
    return {**breakdown, IDLE if on_cuda else ELSE: remaining}


def breakdown_table(title: str, breakdown: Mapping[str, float]) -> Table:
    """A table of the parts that take any time.

    Args:
        title: of the table.
        breakdown: fraction of the time by part.
    """
    table = Table(title=title, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, fraction in breakdown.items():
        if fraction > 0:
            table.add_row(name, f"{fraction:.0%}")
    return table


def _cpu_seconds(events: Iterable[Any]) -> dict[str, float]:
    """Time in operations of each part, those within another of them counted with it."""
    part_of = {name: part for part, names in CPU_PARTS.items() for name in names}
    seconds = dict.fromkeys(CPU_PARTS, 0.0)
    for event in events:
        if event.name in part_of and not any(parent.name in part_of for parent in _parents(event)):
            seconds[part_of[event.name]] += 1e-6 * event.time_range.elapsed_us()
    return seconds


def _parents(event: Any) -> Iterator[Any]:
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event


def _cuda_seconds(events: Iterable[Any]) -> dict[str, float]:
    """Time in kernels of each part, and of none."""
    events = list(events)
    # The marks that functions make of themselves lie on the device as well.
    marks = {event.name for event in events if event.device_type == DeviceType.CPU}
    seconds = dict.fromkeys((*CUDA_PARTS, ELSE), 0.0)
    for event in events:
        if event.device_type == DeviceType.CUDA and event.name not in marks:
            parts = (part for part, names in CUDA_PARTS.items() if any(name in event.name for name in names))
            seconds[next(parts, ELSE)] += 1e-6 * event.time_range.elapsed_us()
    return seconds
