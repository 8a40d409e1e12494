"""How far an edit is, in a file of its run folder that other programs read."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ntalker_ns.editing.store import write_whole

Work = Literal["render", "edit", "train"]
"""Rendering a frame, editing a frame, a training step."""
PROGRESS_FILE = "progress.json"
"""In an edit's store."""
PAUSE = 0.5
"""Least seconds between two writings, and between two readings by a page."""


@dataclass(frozen=True)
class EditProgress:
    """How far an edit is."""

    phase: str
    """What is being done."""
    done: int = 0
    """Of the phase."""
    total: int = 0
    """Of the phase."""
    seconds_left: float | None = None
    """Until the end of the edit; None while it is not known how long each kind of work takes."""
    fraction: float = 0.0
    """Of the whole edit, 0 to 1."""

    def __str__(self) -> str:
        count = f" {self.done} of {self.total}" if self.total else ""
        left = "" if self.seconds_left is None else f"; about {in_minutes(self.seconds_left)} left"
        return f"{self.phase}{count}{left}"

    @classmethod
    def read(cls, folder: Path) -> "EditProgress | None":
        """What an edit wrote last into its store; None: nothing yet."""
        try:
            return cls(**json.loads((folder / PROGRESS_FILE).read_text("utf8")))
        except (OSError, ValueError, TypeError):
            return None


def in_minutes(seconds: float) -> str:
    """A time to wait, in words."""
    return f"{round(seconds)} s" if seconds < 90 else f"{round(seconds / 60)} min"


@dataclass
class ProgressWriter:
    """Counts an edit's work and writes how far it is."""

    folder: Path
    """The edit's store."""
    expected: dict[Work, int]
    """How often each kind of work is done in the whole edit."""
    now: Callable[[], float] = time.monotonic
    """Seconds."""
    _done: dict[Work, int] = field(default_factory=lambda: {"render": 0, "edit": 0, "train": 0})
    _seconds: dict[Work, float] = field(default_factory=lambda: {"render": 0.0, "edit": 0.0, "train": 0.0})
    _last: float | None = None
    _written: float = -PAUSE

    def note(self, work: Work, count: int, phase: str, done: int, total: int) -> None:
        """Says that some work is done.

        Args:
            work: of which kind.
            count: how much more of it.
            phase: what it belongs to, in words.
            done: of the phase.
            total: of the phase.
        """
        now = self.now()
        if self._last is not None:
            # Of the very first work it is not known when it began.
            self._seconds[work] += now - self._last
        self._done[work] += count
        self._last = now
        if now - self._written >= PAUSE or done == total:
            self._written = now
            progress = EditProgress(phase, done, total, *self._outlook())
            write_whole(self.folder / PROGRESS_FILE, json.dumps(asdict(progress)).encode())

    def _outlook(self) -> tuple[float | None, float]:
        """Seconds left, and the fraction that is done, by time where that is known and by counts where not."""
        left: dict[Work, int] = {work: max(0, total - self._done[work]) for work, total in self.expected.items()}
        if any(count and not self._seconds[work] for work, count in left.items()):
            total = sum(self.expected.values())
            return None, 1.0 - sum(left.values()) / max(total, 1)
        seconds = sum(count * self._seconds[work] / max(self._done[work], 1) for work, count in left.items())
        passed = sum(self._seconds.values())
        return seconds, passed / max(passed + seconds, 1e-6)
