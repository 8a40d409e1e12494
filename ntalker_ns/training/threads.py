"""Limits the number of threads to the free cores.

Threads of a parallel region spin while they wait for each other. If another program occupies a core, each of a step's
hundreds of barriers lasts until the scheduler preempts it: beside one busy program, a training step on two cores took
thirty times as long. With one thread fewer it takes 1.5 times as long.

Sums over samples are made per thread, so their last digits depend on the number of threads. For bitwise equal runs set
OMP_NUM_THREADS and NUMBA_NUM_THREADS to 1.
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers for its parameters (malloc.h)."""

KEPT = 512 << 20
"""Unused bytes that a process may keep."""


WINDOW, PIECES = 0.5, 3
"""Seconds of work, and least number of steps or pictures, per decision: a single one may have compiled or loaded
something in one thread."""

SHORTEST_WAIT, LONGEST_WAIT = 4.0, 64.0
"""Seconds of work between attempts with all threads, or with fewer; doubled after each failed one."""

TORCH_THREADS = torch.get_num_threads()
"""torch's own choice, or the user's."""


def limit_threads(device_type: str) -> AbstractContextManager[None]:
    """Context of a training step or a picture: on the CPU, sets the number of threads.

    Args:
        device_type: `torch.device.type`.
    """
    return _process_share().working() if device_type == "cpu" else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """Context of many small operations of torch on the CPU, which threads would only wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _process_share() -> "CoreShare":
    return CoreShare(max(TORCH_THREADS, _kernel_threads()))


def _kernel_threads() -> int:
    """numba's maximum."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS)  # pyright: ignore[reportAttributeAccessIssue]


def use_threads(threads: int) -> None:
    """Sets the most threads of torch and of the kernels that this thread calls.

    Args:
        threads: at least 1.
    """
    from numba import set_num_threads

    set_num_threads(min(threads, _kernel_threads()))
    torch.set_num_threads(min(threads, TORCH_THREADS))


class CoreShare:
    """Chooses the number of threads by the processor time that the process gets.

    Spinning threads use processor time, so a process alone on its cores gets as many seconds per second as it has
    threads. If it gets fewer, other programs run or a container's quota is smaller: it continues with as many threads
    as it got cores, and retries all of them now and then. If fewer threads are no faster, waiting threads sleep
    (OMP_WAIT_POLICY=passive, or numba on TBB), and it returns to all of them.
    """

    def __init__(
        self,
        most: int,
        use: Callable[[int], None] = use_threads,
        clock: Callable[[], float] = time.perf_counter,
        processor_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """
        Args:
            most: maximum number of threads.
            use: sets their number.
            clock: seconds.
            processor_clock: seconds of processor time of the process.
        """
        self.most = self.threads = most
        self._use, self._clock, self._processor_clock = use, clock, processor_clock
        self._seconds = 0.0
        self._cores: list[float] = []
        self._pieces: list[float] = []
        self._piece_of_all: float | None = None
        self._enough = PIECES
        self._wait = self._until_attempt = SHORTEST_WAIT
        self._until_judged = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Context of a training step or a picture."""
        if self.most == 1:
            yield
            return
        self._use(self.threads)
        begin, processor_begin = self._clock(), self._processor_clock()
        yield
        seconds = self._clock() - begin
        self._seconds += seconds
        self._pieces.append(seconds)
        self._cores.append((self._processor_clock() - processor_begin) / max(seconds, 1e-9))
        if self._seconds >= WINDOW and len(self._cores) >= self._enough:
            self._judge()
            self._seconds = 0.0
            self._cores.clear()
            self._pieces.clear()

    def _judge(self) -> None:
        cores, piece = statistics.median(self._cores), statistics.median(self._pieces)
        self._enough = PIECES
        of_all, self._piece_of_all = self._piece_of_all, None
        if self._until_judged > 0.0:
            self._until_judged -= self._seconds
        elif of_all is not None and piece >= of_all:
            self.threads = self.most
            self._until_judged = self._wait
            self._wait_longer()
        elif self.threads == 1 or cores > self.threads - 0.5:
            self._stay()
        else:
            self._take_fewer(round(cores), piece)

    def _take_fewer(self, threads: int, piece: float) -> None:
        self._until_attempt = self._wait
        if self.threads == self.most:
            self._piece_of_all = piece
            self._wait_longer()
        self.threads = max(1, threads)

    def _wait_longer(self) -> None:
        self._wait = min(2.0 * self._wait, LONGEST_WAIT)

    def _stay(self) -> None:
        if self.threads == self.most:
            self._wait = SHORTEST_WAIT
            return
        self._until_attempt -= self._seconds
        if self._until_attempt <= 0.0:
            self.threads = self.most
            # If cores are still occupied, one slow step suffices to notice.
            self._enough = 1


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of returning it to the system.

    Every training step and frame allocates the same tens of megabytes. Returned each time, they cost thousands of page
    faults per frame, a tenth of its time and more. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT)
        mallopt(_TRIM_THRESHOLD, KEPT)
