"""Ctrl-C and SIGTERM: a training ends after the step it is in, everything else at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REMINDER = 1.0
"""Seconds between two attempts to end a compilation: LLVM calls back into Python, and what is raised there is lost."""


class Interrupted(SystemExit):
    """A signal that ends the program; its code is 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: the signal's.
        """
        super().__init__(128 + number)


class Interruption:
    """Whether the user or the system has asked the program to end."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal's; None: nobody has asked."""
        self.in_steps = False
        """Whether `check` is called soon: the work is then ended there."""

    def check(self) -> None:
        """Ends the work if that was asked.

        Raises:
            Interrupted: it was.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of `SIGNALS`: the second signal, and one between steps, ends the work at once.

        Args:
            number: the signal's.
            frame: what it interrupts.

        Raises:
            Interrupted: at once.
        """
        again, self.number = self.number is not None, number
        signal.setitimer(signal.ITIMER_REAL, REMINDER, REMINDER)
        if again or not self.in_steps or compiles(frame):
            self.check()

    def remind(self, number: int, frame: FrameType | None) -> None:
        """The handler of the timer.

        Args:
            number: of SIGALRM.
            frame: what it interrupts.

        Raises:
            Interrupted: a kernel is being compiled; nothing is half done there.
        """
        if compiles(frame):
            self.check()


def compiles(frame: FrameType | None) -> bool:
    """Whether a frame is in numba's compiler."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(("numba.", "llvmlite.")):
            return True
        frame = frame.f_back
    return False


@contextmanager
def interruptible(signals: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[Interruption]:
    """Handles signals by `Interruption` inside the block; in a thread beside the main one, none.

    Args:
        signals: which.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.handle) for number in signals}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, interruption.remind)
    try:
        yield interruption
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
