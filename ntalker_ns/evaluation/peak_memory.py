"""Peak memory of a stretch of work."""

import resource
import sys
import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.05
"""Seconds between two samples."""


class PeakMemory:
    """Samples memory from construction until `gib`; the operating system's own peak is one for the whole process.

    Args:
        gpu: watch the memory that torch has allocated on the GPU instead of the process's resident memory.
    """

    def __init__(self, gpu: bool = False) -> None:
        self._gpu = gpu
        self._peak = 0.0
        self._done = threading.Event()
        if gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._done.is_set():
            self._peak = max(self._peak, resident_gib())
            self._done.wait(_INTERVAL)

    def gib(self) -> float:
        """The peak so far, GiB; ends the watch."""
        self._done.set()
        if self._gpu:
            import torch

            return torch.cuda.max_memory_allocated() / 2**30
        return max(self._peak, resident_gib())


def resident_gib() -> float:
    """The process's resident memory now; where the system does not say, its peak so far, GiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 2**20
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
