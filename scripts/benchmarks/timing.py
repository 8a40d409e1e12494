"""Timing of code, and the machine it was measured on."""

import importlib.metadata
import math
import platform
import time
import warnings
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import torch

from ntalker_ns.console import progress_bar

Run = Callable[[], object]
"""Code that is timed."""

Key = TypeVar("Key", bound=Hashable)

PACKAGES = ("ntalker_ns", "nerfstudio", "torch", "triton", "numba", "numpy")
"""Whose versions a result names."""

CUDA_BATCH = 20
"""Largest number of runs per measurement on CUDA, where a synchronisation takes as long as a small kernel."""
ENOUGH = 0.02
"""Seconds that a measurement should last."""


def synchronize(device: torch.device) -> None:
    """Waits until a device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fastest(cases: Mapping[Key, Run], repeats: int, device: torch.device, title: str) -> dict[Key, float]:
    """Milliseconds of each case: one run to warm up, then rounds over all cases, so that noise meets all alike.

    Args:
        cases: what is timed, by name.
        repeats: rounds; the fastest counts, since other programs only slow a run down.
        device: where they run.
        title: of the progress bar.

    Returns:
        Milliseconds of one run of each.
    """
    batches = dict.fromkeys(cases, 1)
    best = dict.fromkeys(cases, float("inf"))
    with progress_bar() as bar:
        task = bar.add_task(title, total=(repeats + 1) * len(cases))
        for repeat in range(repeats + 1):
            for name, run in cases.items():
                seconds = timed(run, device, batches[name])
                if repeat:
                    best[name] = min(best[name], 1e3 * seconds)
                elif device.type == "cuda":
                    # The first run of all compiles.
                    seconds = timed(run, device)
                    batches[name] = min(max(math.ceil(ENOUGH / seconds), 1), CUDA_BATCH)
                bar.advance(task)
    return best


def timed(run: Run, device: torch.device, batch: int = 1) -> float:
    """Seconds of a run, the mean over `batch` of them."""
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(batch):
        run()
    synchronize(device)
    return (time.perf_counter() - begin) / batch


def synchronisations(run: Run, times: int) -> float | None:
    """Host-device synchronisations of a run, by torch's warnings; None without CUDA.

    Args:
        run: the code.
        times: number of runs.
    """
    if not torch.cuda.is_available():
        return None
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for _ in range(times):
                run()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(each.message) for each in found) / times


def machine(device: torch.device) -> dict[str, object]:
    """The machine, the date and the versions that a figure belongs to.

    Args:
        device: what was measured.
    """
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
