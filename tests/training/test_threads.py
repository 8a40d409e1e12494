"""The number of threads follows the cores that the process gets."""

from itertools import pairwise

import pytest
import torch

from ntalker_ns.training import threads as cores
from ntalker_ns.training.threads import (
    LONGEST_WAIT,
    PIECES,
    SHORTEST_WAIT,
    WINDOW,
    CoreShare,
    limit_threads,
    use_threads,
)


class Machine:
    """A machine whose other programs leave some cores; threads that wait do so awake, unless they sleep.

    A step of work takes a second of one core. Where threads outnumber the free cores, it takes twenty times as long.
    A share of it is one thread's, while the others wait.
    """

    def __init__(self, most: int, free: float, alone: float = 0.0, asleep: bool = False) -> None:
        self.free, self.threads, self.time, self.processor_time = free, most, 0.0, 0.0
        self.alone, self.asleep = alone, asleep
        self.share = CoreShare(most, self.use, lambda: self.time, lambda: self.processor_time)

    def use(self, threads: int) -> None:
        self.threads = threads

    def step(self) -> float:
        """Works; gives the seconds it took."""
        with self.share.working():
            seconds = self.alone + (1.0 - self.alone) / self.threads if self.threads <= self.free else 20.0
            self.time += seconds
            self.processor_time += 1.0 if self.asleep else seconds * min(self.threads, self.free)
        return seconds


def test_all_threads_are_used_on_idle_cores():
    machine = Machine(most=8, free=8.0)
    assert {machine.step() for _ in range(100)} == {1 / 8}


@pytest.mark.parametrize(("most", "free", "expected"), [(2, 1.0, 1), (8, 6.2, 6), (64, 2.0, 2), (2, 0.4, 1)])
def test_as_many_threads_as_cores(most: int, free: float, expected: int):
    machine = Machine(most, free)
    for _ in range(PIECES + 1):
        machine.step()
    assert machine.threads == expected


def test_a_single_threaded_start_does_not_reduce_threads():
    """Kernels are compiled in the first step, and for minutes."""
    machine = Machine(most=2, free=2.0)
    with machine.share.working():
        machine.time += 100.0
        machine.processor_time += 100.0
    assert {machine.step() for _ in range(20)} == {0.5}


def test_attempts_with_all_threads_are_rare():
    """At first every few seconds of work, then one step a minute."""
    machine = Machine(most=2, free=1.0)
    slow = [number for number in range(2000) if machine.step() > 1.0]
    assert slow[:PIECES] == list(range(PIECES)) and slow[PIECES] - PIECES == pytest.approx(SHORTEST_WAIT, abs=PIECES)
    distances = [b - a for a, b in pairwise(slow[PIECES:])]
    assert distances == sorted(distances)
    assert distances[-1] == pytest.approx(LONGEST_WAIT, abs=PIECES)


@pytest.mark.parametrize("most", [2, 8])
def test_sleeping_threads_do_not_reduce_threads(most: int):
    machine = Machine(most, free=most, alone=0.6, asleep=True)
    fastest = 0.6 + 0.4 / most
    slow = [number for number in range(2000) if machine.step() > fastest + 1e-9]
    assert slow[:PIECES] == list(range(PIECES, 2 * PIECES))
    assert fastest * (slow[-PIECES] - slow[-PIECES - 1]) == pytest.approx(LONGEST_WAIT, abs=2 * PIECES)


def test_all_threads_return_when_cores_are_free():
    machine = Machine(most=2, free=1.0)
    for _ in range(400):
        machine.step()
    machine.free = 2.0
    taken = [machine.step() for _ in range(round(LONGEST_WAIT) + 3)]
    assert taken[-1] == 0.5
    machine.free = 1.0
    for _ in range(PIECES + 1):
        machine.step()
    before = machine.time
    machine.free = 2.0
    while machine.threads == 1:
        machine.step()
    assert machine.time - before <= SHORTEST_WAIT + 2 * WINDOW


def test_a_single_thread_is_left_alone():
    machine = Machine(most=1, free=0.3)
    for _ in range(10):
        machine.step()
    assert machine.threads == 1


def test_failed_work_is_not_measured():
    machine = Machine(most=2, free=2.0)
    with pytest.raises(ZeroDivisionError), machine.share.working():
        machine.time += 100.0
        raise ZeroDivisionError
    machine.step()
    assert machine.threads == 2


def test_threads_of_torch_and_of_the_kernels():
    from numba import get_num_threads

    before = torch.get_num_threads()
    try:
        use_threads(1)
        assert (torch.get_num_threads(), get_num_threads()) == (1, 1)
        use_threads(1000)
        assert torch.get_num_threads() == cores.TORCH_THREADS
    finally:
        torch.set_num_threads(before)


def test_threads_are_unchanged_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cores, "use_threads", lambda threads: pytest.fail("threads were set"))
    with limit_threads("cuda"):
        pass
