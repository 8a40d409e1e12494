"""The engine of live heads: one thread makes blocks of sound and lips, another renders the pictures of all sessions."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.live.clock import SoundClock
from ntalker_ns.live.pictures import (
    SIZES,
    HeadPictures,
    Pictures,
    Speed,
    compressed,
    fitting_size,
    measured_speed,
)
from ntalker_ns.live.session import Outlet, Session
from ntalker_ns.live.stage import LiveOptions, Stage
from ntalker_ns.live.voice import LipSource, Voice, resting_lips
from ntalker_ns.training.threads import use_threads

PAUSE = 0.004
"""Seconds between two looks at what is due."""
SLOWEST = 10
"""Fewest pictures per second of a session beside others."""
MOST_SESSIONS = 8
SLOW = 0.03
"""Seconds per picture above which the first one after an interruption is rendered at a lower resolution."""
SPARE = 0.03
"""Seconds by which blocks are made ahead, beside one and a half times those that a picture takes."""


class Engine:
    """Renders one head for several sessions."""

    def __init__(
        self,
        pictures: Pictures,
        stage: Stage,
        lips: Callable[[], LipSource],
        rest: Float32[np.ndarray, " lip_dim"],
        speed: Speed,
        sessions: int = 0,
    ) -> None:
        """
        Args:
            pictures: of the head.
            stage: its poses.
            lips: makes the source of a session's lip shapes.
            rest: the lips in silence.
            speed: of the pictures.
            sessions: at once; 0: as many as get `SLOWEST` pictures a second each.
        """
        self.pictures, self.speed = pictures, speed
        self.capacity = sessions or max(1, min(MOST_SESSIONS, int(speed.rate / SLOWEST)))
        """Sessions at once."""
        self.stage = stage
        self._lips, self._rest = lips, rest
        self._rendering = threading.Lock()
        self._sessions: list[Session] = []
        self._seconds = 1.0 / speed.rate
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._advance, self._render)]

    @classmethod
    def of_model(
        cls, model: Any, lips: Callable[[], LipSource], size: int | None = None, sessions: int = 0
    ) -> "Engine":
        """The engine of a model of a run.

        Args:
            model: the head.
            lips: makes the source of a session's lip shapes.
            size: longest side of the pictures, px; None: the largest one that keeps 25 frames/s.
            sessions: at once; 0: as many as the machine keeps.
        """
        stage = Stage(model.driving)
        pictures = HeadPictures(model, stage, size or SIZES[0])
        rest = resting_lips(lips())

        def picture(frame: int) -> None:
            compressed(pictures.render(LiveOptions(), stage.frame(LiveOptions(), frame), rest, 1.0))

        def speed_at(wanted: int) -> Speed:
            pictures.resize(wanted)
            return measured_speed(picture, wanted)

        speed = fitting_size(speed_at) if size is None else speed_at(size)
        return cls(pictures, stage, lips, rest, speed, sessions)

    @property
    def lead(self) -> float:
        """Seconds by which sound is made before it is played, for the picture to be rendered in."""
        return SPARE + 1.5 * self._seconds

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Those that are open."""
        return tuple(self._sessions)

    def start(self) -> None:
        """Starts both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both threads and waits for them."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def open(self, outlet: Outlet) -> Session | None:
        """A new session, or None where all are taken; its clock starts now."""
        if len(self._sessions) >= self.capacity:
            return None
        session = Session(Voice(self._lips(), self._rest), self.stage, outlet, SoundClock(), self.lead)
        self._sessions = [*self._sessions, session]
        return session

    def portrait(self) -> bytes:
        """A picture of the head at rest, as JPEG."""
        look = LiveOptions(pose="still", eyes="open")
        with self._rendering:
            picture = self.pictures.render(look, self.stage.frame(look, 0), self._rest, self.stage.openness(look, 0))
        return compressed(picture)

    def close(self, session: Session) -> None:
        """Ends a session."""
        self._sessions = [each for each in self._sessions if each is not session]

    def _advance(self) -> None:
        # Speech is a small network: threads that wait for each other would take cores from the pictures.
        use_threads(1)
        while not self._over.wait(PAUSE):
            for session in self._sessions:
                self._guarded(session, session.advance)

    def _render(self) -> None:
        while not self._over.is_set():
            rendered = [self._guarded(each, lambda each=each: self._render_one(each)) for each in self._sessions]
            if not any(rendered):
                self._over.wait(PAUSE)

    def _render_one(self, session: Session) -> bool:
        interrupted = session.interrupted
        block = session.to_render(self._seconds)
        if block is None:
            return False
        session.interrupted = session.interrupted and not interrupted
        coarse = interrupted and self._seconds > SLOW
        begin = time.perf_counter()
        with self._rendering:
            rendered = self.pictures.render(block.look, block.frame, block.spoken.lips, block.openness, coarse)
        picture = compressed(rendered)
        if not coarse:
            # A slow average: a picture beside other programs may take several times as long.
            self._seconds += 0.05 * (time.perf_counter() - begin - self._seconds)
        session.lead = self.lead
        session.outlet.picture(block, picture)
        return True

    def _guarded(self, session: Session, work: Callable[[], Any]) -> Any:
        """Does a piece of work for a session; a fault ends it, and not the threads that serve the others."""
        try:
            return work()
        except Exception:
            CONSOLE.print_exception()
            self.close(session)
            session.outlet.failed()
            return False
