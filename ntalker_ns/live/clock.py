"""The clock of a live head: how far a listener's sound has got."""

import time
from collections.abc import Callable

PATIENCE = 0.5
"""Seconds for which the clock goes on by itself after a report: a stopped listener causes no further work."""


class SoundClock:
    """Where a listener is in the sound, from what it reports now and then; in between the clock runs by itself.

    Sound is the master: two clocks never run equally fast, and whoever counts the seconds of this machine alone is off
    by a second within hours. Before the first report the clock runs alone.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            now: seconds.
        """
        self._now = now
        self._position, self._at = 0.0, now()
        self._reported = False

    def report(self, position: float) -> None:
        """Sets the position that the listener reports. One before the last report or jump arrives late and is ignored.

        Args:
            position: seconds of sound played.
        """
        if position < self._position:
            return
        self._position, self._at, self._reported = position, self._now(), True

    def jump(self, position: float) -> None:
        """Goes on from elsewhere in the sound: what lay between was dropped.

        Args:
            position: seconds.
        """
        self._position, self._at = position, self._now()

    def position(self) -> float:
        """Seconds of sound that the listener has played."""
        passed = self._now() - self._at
        return self._position + (min(passed, PATIENCE) if self._reported else passed)
