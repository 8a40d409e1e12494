"""Where the sound is that a browser plays: a clock that plays, pauses, seeks and repeats."""

import threading
import time
from collections.abc import Callable


class Playback:
    """The frame at the current playback position. The browser's sound starts and stops with it."""

    def __init__(self, frames: int, fps: float, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            frames: how many there are.
            fps: frames per second.
            now: seconds.
        """
        self._now, self._lock = now, threading.RLock()
        self.loop = False
        """Whether it begins again at its end."""
        self.load(frames, fps)

    def load(self, frames: int, fps: float) -> None:
        """Takes another sound, paused at its beginning."""
        with self._lock:
            self.frames, self.fps = frames, fps
            self._position, self._since = 0.0, None

    @property
    def seconds(self) -> float:
        """Length."""
        return self.frames / self.fps

    @property
    def playing(self) -> bool:
        """Whether it advances. At its end it stops, unless it loops."""
        with self._lock:
            return self._since is not None and (self.loop or self._passed() < self.seconds)

    def play(self) -> float:
        """Plays on, from the beginning if it is at its end; returns the position in seconds."""
        with self._lock:
            begin = self.position()
            self._position = 0.0 if begin >= self.seconds - 0.5 / self.fps else begin
            self._since = self._now()
            return self._position

    def pause(self) -> None:
        """Stays where it is."""
        with self._lock:
            self._position, self._since = self.position(), None

    def seek(self, frame: int) -> None:
        """Goes to a frame, and plays on from there if it plays."""
        with self._lock:
            playing = self.playing
            self._position = min(max(frame, 0), self.frames - 1) / self.fps
            self._since = self._now() if playing else None

    def position(self) -> float:
        """Seconds from the beginning, at most the length."""
        with self._lock:
            passed = self._passed()
            return passed % self.seconds if self.loop and self._since is not None else min(passed, self.seconds)

    def repeats(self) -> int:
        """How often it has begun again."""
        with self._lock:
            return int(self._passed() / self.seconds) if self.loop else 0

    def frame(self) -> int:
        """The frame at the position."""
        return min(int(self.position() * self.fps + 1e-6), self.frames - 1)

    def _passed(self) -> float:
        return self._position + (0.0 if self._since is None else self._now() - self._since)
