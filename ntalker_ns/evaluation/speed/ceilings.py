"""What a CUDA device can do at most, measured, and how near to it a kernel comes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile

from ntalker_ns.evaluation.speed.timing import Run, fastest, synchronize

COPIED_BYTES = 2**30
"""Of the copy that measures memory, many times a cache."""

PRODUCT_WIDTH = 8192
"""Rows and columns of the matrices whose product is timed."""


@dataclass(frozen=True)
class Work:
    """The least that something has to do."""

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

    def share(self, work: Work, milliseconds: float) -> tuple[str, float]:
        """How near something comes to the ceiling that bounds it.

        Args:
            work: the least it has to do.
            milliseconds: how long its kernels take.

        Returns:
            The ceiling, "memory" or "products", and the share of it that is reached, 1 at the ceiling.
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


def kernel_milliseconds(run: Run, device: torch.device, times: int) -> float | None:
    """Time that the kernels of something take on a CUDA device, without the host that starts them; None elsewhere.

    Args:
        run: what is done.
        device: where.
        times: how often; the mean counts.
    """
    if device.type != "cuda":
        return None
    run()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(times):
            run()
        synchronize(device)
    return 1e-3 * _microseconds(profiler.events() or []) / times


def _microseconds(events: Iterable[Any]) -> float:
    return sum(event.time_range.elapsed_us() for event in events if event.device_type == DeviceType.CUDA)
