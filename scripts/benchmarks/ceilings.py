"""Measured peak rates of a CUDA device, and the fraction of them that a kernel reaches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile, record_function

from scripts.benchmarks.timing import Run, fastest, synchronize

COPIED_BYTES = 2**30
"""Of the copy that measures memory, many times a cache."""

PRODUCT_WIDTH = 8192
"""Rows and columns of the matrices whose product is timed."""


CASE = "case: "
"""Prefix of the marks of cases in a profile."""


@dataclass(frozen=True)
class Work:
    """A lower bound of the work of a kernel."""

    bytes: int
    """Moved through the device's memory: each input read once, each result written once, by each pass."""
    flops: int = 0
    """Multiplications and additions of matrix products."""
    half: bool = False
    """Whether the products are of float16."""


@dataclass(frozen=True)
class Ceilings:
    """Measured rates of a device."""

    bytes_per_second: float
    """Of a copy in the device's memory, bytes read and bytes written."""
    float32_flops: float
    """Of a product of float32 matrices, per second."""
    float16_flops: float
    """Of a product of float16 matrices, per second."""

    def fraction(self, work: Work, milliseconds: float) -> tuple[str, float]:
        """The fraction of its ceiling that a kernel reaches.

        Args:
            work: lower bound of its work.
            milliseconds: how long its kernels take.

        Returns:
            The ceiling, "memory" or "products", and the fraction of it that is reached.
        """
        floors = {
            "memory": work.bytes / self.bytes_per_second,
            "products": work.flops / (self.float16_flops if work.half else self.float32_flops),
        }
        bound = max(floors, key=lambda name: floors[name])
        return bound, 1e3 * floors[bound] / milliseconds


def measure_ceilings(device: torch.device, repeats: int, width: int = PRODUCT_WIDTH) -> Ceilings:
    """Times a large copy and large matrix products of random numbers.

    Args:
        device: what is measured.
        repeats: rounds; the fastest counts.
        width: rows and columns of the matrices.
    """
    source = torch.rand(COPIED_BYTES // 4 if device.type == "cuda" else width * width, device=device)
    target = torch.empty_like(source)
    singles = [torch.randn(width, width, device=device) for _ in range(2)]
    halves = [each.half() for each in singles]
    cases = {
        "copy": lambda: target.copy_(source),
        "float32": lambda: torch.mm(*singles),
        "float16": lambda: torch.mm(*halves),
    }
    times = fastest(cases, repeats, device, "Ceilings")
    flops = 2.0 * width**3
    return Ceilings(2e3 * source.nbytes / times["copy"], 1e3 * flops / times["float32"], 1e3 * flops / times["float16"])


def kernel_milliseconds(cases: Mapping[str, Run], device: torch.device, times: int) -> dict[str, float]:
    """Time of kernels on a CUDA device, without the host that launches them.

    Args:
        cases: code by name; each has run before.
        device: where.
        times: number of runs; the mean counts.

    Returns:
        Milliseconds by name; nothing where the device is another one.
    """
    if device.type != "cuda":
        return {}
    # One profile of all: to begin one takes seconds.
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for name, run in cases.items():
            with record_function(f"{CASE}{name}"):
                for _ in range(times):
                    run()
                synchronize(device)
    return milliseconds_by_case(profiler.events() or [], times)


def milliseconds_by_case(events: Iterable[Any], times: int) -> dict[str, float]:
    """Time in kernels that started while a case was run; marks of functions are no kernels.

    Args:
        events: of a profile.
        times: how often each case was run.

    Returns:
        Milliseconds of one run by the case's name.
    """
    events = list(events)
    marks = {event.name for event in events if event.device_type == DeviceType.CPU}
    spans = [event for event in events if event.name.startswith(CASE) and event.device_type == DeviceType.CPU]
    kernels = [event for event in events if event.device_type == DeviceType.CUDA and event.name not in marks]
    found = {}
    for span in spans:
        begin, end = span.time_range.start, span.time_range.end
        inside = (each for each in kernels if begin <= each.time_range.start < end)
        found[span.name.removeprefix(CASE)] = 1e-3 * sum(each.time_range.elapsed_us() for each in inside) / times
    return found
