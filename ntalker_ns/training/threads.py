"""As many threads as there are cores that nobody else uses.

Threads that compute together wait for each other, and they wait awake. Alone that is fast. Where another program wants
one of the cores, each of a step's hundreds of waits lasts until the system takes that program off again: beside a
single busy program a training step on two cores took not twice but thirty times as long. With one thread fewer it takes
half as long again, no more.

Sums over samples are made thread by thread, so that their last digits depend on the number of threads. Who wants runs
that are equal to the last digit sets OMP_NUM_THREADS and NUMBA_NUM_THREADS to 1.
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
"""Bytes that a process may hold unused."""


WINDOW, PIECES = 0.5, 3
"""Seconds of work, and steps or pictures, after which the number of threads is judged. One alone may have compiled or
loaded something with a single thread."""

SHORTEST_WAIT, LONGEST_WAIT = 4.0, 64.0
"""Seconds of work between two attempts with all threads, or with fewer: twice as many after each that was in vain."""

TORCH_THREADS = torch.get_num_threads()
"""What torch, or its user, chose."""


def limit_threads(device_type: str) -> AbstractContextManager[None]:
    """Around a training step or a picture: on the CPU, chooses how many threads the process computes with.

    Args:
        device_type: where it is computed, as in `torch.device.type`.
    """
    return _process_share().working() if device_type == "cpu" else nullcontext()


@cache
def _process_share() -> "CoreShare":
    return CoreShare(max(TORCH_THREADS, _kernel_threads()))


def _kernel_threads() -> int:
    """The most that numba can use."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS)  # pyright: ignore[reportAttributeAccessIssue]


def use_threads(threads: int) -> None:
    """Lets torch and the kernels that this thread calls compute with at most so many threads.

    Args:
        threads: at least 1.
    """
    from numba import set_num_threads

    set_num_threads(min(threads, _kernel_threads()))
    torch.set_num_threads(min(threads, TORCH_THREADS))


class CoreShare:
    """Chooses how many threads work is done with, by the cores that the process got for it.

    Threads that wait awake count as work, so that a process which has its cores for itself gets as much processor time
    a second as it has threads. If it gets less, others are at work, or it is not allowed more (containers are seldom
    allowed all cores that they see): then it continues with as many threads as it got cores. Now and then it tries
    all of them again. Where that is no faster, threads only wait asleep (OMP_WAIT_POLICY=passive, or a numba that runs
    on TBB), and all of them go on.
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
            most: threads that there may be.
            use: sets their number.
            clock: seconds.
            processor_clock: seconds of processor time that the process was given.
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
        """Around some work: a training step, a picture."""
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
            # Where cores are still taken, one slow piece of work is enough of them.
            self._enough = 1


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed instead of giving it back to the system.

    Every training step and every frame takes and frees the same tens of megabytes. Given back each time, they come
    again page by page and zeroed: thousands of page faults a frame, a tenth of its time and more. Does nothing where
    there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT)
        mallopt(_TRIM_THRESHOLD, KEPT)
