"""The time line of one session: which sound and which picture come next, and when."""

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ntalker_ns.live.clock import SoundClock
from ntalker_ns.live.stage import LiveOptions, Stage
from ntalker_ns.live.voice import SECONDS, Spoken, Voice

LATEST = 25
"""Blocks that wait for their picture at most: older ones are never shown."""


@dataclass(frozen=True, eq=False)
class Block:
    """40 ms of a session: its sound, and what its picture is made from."""

    index: int
    """From 0; it begins at index x 40 ms of the session's sound."""
    spoken: Spoken
    """Sound and lips."""
    look: LiveOptions
    """Of the session, when the block was made."""
    frame: int
    """Of the stage's sequence."""
    openness: float
    """Of the eyes, 0 to 1."""


@runtime_checkable
class Outlet(Protocol):
    """Where a session's sound and pictures go. Called from the engine's threads; nothing may wait in it."""

    def sound(self, block: Block) -> None:
        """The sound of a block, in order, every block once."""
        ...

    def picture(self, block: Block, picture: bytes) -> None:
        """The picture of a block as JPEG, in order; blocks that there was no time for have none."""
        ...

    def cleared(self, index: int) -> None:
        """An interruption: what comes before this block and was not played yet is to be dropped."""
        ...

    def failed(self) -> None:
        """The session ended by a fault of the engine's."""
        ...


class Session:
    """A listener's time line. Sound is made ahead of its time by `lead`, in which the picture is rendered."""

    def __init__(self, voice: Voice, stage: Stage, outlet: Outlet, clock: SoundClock, lead: float) -> None:
        """
        Args:
            voice: its sound and lip shapes.
            stage: head poses and eyes.
            outlet: receives sound and pictures.
            clock: how far the listener's sound has got.
            lead: seconds by which blocks are made ahead.
        """
        self.voice, self.stage, self.outlet, self.clock, self.lead = voice, stage, outlet, clock, lead
        self.look = LiveOptions()
        self.interrupted = False
        """Whether no picture was rendered since the last interruption."""
        self.lock = threading.RLock()
        """Held while the time line changes."""
        self._next = 0
        self._pending: deque[Block] = deque(maxlen=LATEST)

    def say(self, samples: Float32[np.ndarray, " samples"], ends: bool = False) -> None:
        """Speaks sound after what is being spoken.

        Args:
            samples: mono, 16 kHz, in [-1, 1].
            ends: whether it ends here; otherwise more of it follows.

        Raises:
            NTalkerError: too much of it waits already.
        """
        with self.lock:
            self.voice.push(samples)
            if ends:
                self.voice.end()

    def talk(self) -> int:
        """What is said next is being recorded now; see `Voice.talk`.

        Returns:
            Samples that were sent before it.
        """
        with self.lock:
            self.voice.talk()
            return self.voice.received

    def end(self) -> None:
        """The sound ends here."""
        with self.lock:
            self.voice.end()

    def interrupt(self) -> None:
        """Stops speaking: the next block is silent, and the listener goes there at once."""
        with self.lock:
            self.voice.clear()
            self._pending.clear()
            self.interrupted = True
            self.clock.jump(self._next * SECONDS)
            self.outlet.cleared(self._next)

    def advance(self) -> None:
        """Makes the blocks that are due."""
        with self.lock:
            while self._next * SECONDS < self.clock.position() + self.lead:
                index, look, stage = self._next, self.look, self.stage
                block = Block(index, self.voice.next(), look, stage.frame(look, index), stage.openness(look, index))
                self._next += 1
                self._pending.append(block)
                self.outlet.sound(block)

    def to_render(self, seconds: float) -> Block | None:
        """The block whose picture is rendered next; those before it go without.

        Args:
            seconds: that a picture takes.

        Returns:
            The first block whose picture will be there in time, else the newest; None where none waits.
        """
        with self.lock:
            in_time = math.ceil((self.clock.position() + seconds) / SECONDS)
            while len(self._pending) > 1 and self._pending[0].index < in_time:
                self._pending.popleft()
            return self._pending.popleft() if self._pending else None
