"""Sound that arrives in pieces becomes blocks: 40 ms of sound each, with the lip shape of the frame that shows them."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import SAMPLE_RATE
from ntalker_ns.media.upload import LONGEST
from ntalker_ns.media.video_reader import FPS

BLOCK = SAMPLE_RATE // FPS
"""Samples of a block."""
SECONDS = BLOCK / SAMPLE_RATE
"""Length of a block, s."""

EASE = 0.6
"""Part that is left after each block of the difference between the lips shown and those wanted, where speech begins or
ends: an interruption moves the lips in the next frame, and no frame jumps."""


QUIET = 0.15
"""Root mean square of a pause, over that of the loudest block of the sound so far."""
BEHIND, TOO_FAR_BEHIND = 2, 25
"""Blocks that are ready while somebody talks from which on pauses are shortened, and anything is left out."""


@runtime_checkable
class LipSource(Protocol):
    """What `ntalker_ns.speech.stream.LipStream` does."""

    def push(self, samples: Float32[np.ndarray, "..."]) -> Float[Tensor, "frames lip_dim"]:
        """The lip shapes of the frames that a piece of sound completes."""
        ...

    def flush(self) -> Float[Tensor, "frames lip_dim"]:
        """The lip shapes that are left when the sound has ended."""
        ...

    def clear(self) -> None:
        """Discards the sound."""
        ...


@dataclass(frozen=True, eq=False)
class Spoken:
    """A block."""

    sound: Float32[np.ndarray, " samples"]
    """`BLOCK` samples in [-1, 1]."""
    lips: Float32[np.ndarray, " lip_dim"]
    """The lip shape shown with it."""
    speaking: bool
    """Whether its sound is of what was pushed; otherwise it is silence."""
    consumed: int
    """Samples that were spoken before this block since the voice was made, those that an interruption dropped
    included."""


class Voice:
    """Splits sound into blocks, one per call; without sound, silence with closed lips.

    Only as much sound is looked at as the next block needs: a file of ten minutes costs no more at a time than a
    microphone.
    """

    def __init__(self, source: LipSource, rest: Float32[np.ndarray, " lip_dim"]) -> None:
        """
        Args:
            source: of the head.
            rest: the lips in silence, `resting_lips`.
        """
        self._source, self._rest = source, rest
        self._shown, self._offset = rest, np.zeros_like(rest)
        self._speaking = False
        self._heard = 0
        self._forget()

    def _forget(self) -> None:
        self._waiting: deque[np.ndarray | None] = deque()  # None: the sound ends here
        self._waiting_samples = 0
        self._sound = np.zeros(0, np.float32)
        self._lips: deque[np.ndarray] = deque()
        self._live, self._loudest = False, 0.0

    @property
    def busy(self) -> bool:
        """Whether there is anything that was not spoken yet."""
        return bool(self._waiting or self._lips or len(self._sound))

    @property
    def received(self) -> int:
        """Samples that were pushed since it was made."""
        return self._heard + self._waiting_samples + len(self._sound)

    def push(self, samples: Float32[np.ndarray, " samples"]) -> None:
        """Takes sound that follows what was pushed before.

        Args:
            samples: mono, 16 kHz, in [-1, 1].

        Raises:
            NTalkerError: more than `LONGEST` seconds would wait, or a value is not finite.
        """
        if self._waiting_samples + len(samples) > LONGEST * SAMPLE_RATE:
            raise NTalkerError(f"More than {LONGEST // 60} minutes of sound wait to be spoken: send it later.")
        if not np.isfinite(samples).all():
            raise NTalkerError("The sound holds values that are not numbers.")
        for first in range(0, len(samples), BLOCK):
            self._waiting.append(samples[first : first + BLOCK])
        self._waiting_samples += len(samples)

    def talk(self) -> None:
        """Says that what follows is being recorded now, until its end: where it came late once, pauses are shortened
        until it is in time again. Other sound is spoken as it is."""
        self._live = True

    def end(self) -> None:
        """Says that the sound ends here, so that its last frames need not wait for more."""
        if self.busy:
            self._waiting.append(None)
        self._live = self._live and self.busy

    def clear(self) -> None:
        """Forgets all that was not spoken yet: from the next block on the lips close."""
        self._heard += self._waiting_samples + len(self._sound)
        self._source.clear()
        self._forget()

    def next(self) -> Spoken:
        """The next block."""
        while self._waiting and (self._live or not self._lips):
            self._look_at(self._waiting.popleft())
        while self._live and self._may_skip():
            self._taken()
            self._lips.popleft()
        consumed = self._heard
        if self._lips:
            return Spoken(self._taken(), self._eased(self._lips.popleft(), speaking=True), True, consumed)
        return Spoken(np.zeros(BLOCK, np.float32), self._eased(self._rest, speaking=False), False, consumed)

    def _may_skip(self) -> bool:
        """Whether somebody who talks is shown so late that the next block is left out."""
        level = float(np.sqrt(np.square(self._sound[:BLOCK]).mean())) if len(self._sound) else 0.0
        self._loudest = max(self._loudest, level)
        return len(self._lips) > TOO_FAR_BEHIND or (len(self._lips) >= BEHIND and level < QUIET * self._loudest)

    def _look_at(self, piece: np.ndarray | None) -> None:
        if piece is None:
            self._live = False
            self._lips.extend(self._source.flush().numpy(force=True))
            if len(self._sound) > len(self._lips) * BLOCK:
                # Frames are rounded to the nearest: the last part of a block has none of its own.
                self._lips.append(self._rest)
            return
        self._waiting_samples -= len(piece)
        self._sound = np.concatenate([self._sound, piece])
        self._lips.extend(self._source.push(piece).numpy(force=True))

    def _taken(self) -> np.ndarray:
        sound, self._sound = self._sound[:BLOCK], self._sound[BLOCK:]
        self._heard += len(sound)
        return np.pad(sound, (0, BLOCK - len(sound)))

    def _eased(self, wanted: np.ndarray, speaking: bool) -> np.ndarray:
        if speaking != self._speaking:
            self._offset = self._shown - wanted
            self._speaking = speaking
        self._offset = EASE * self._offset
        self._shown = wanted + self._offset
        return self._shown


def resting_lips(source: LipSource) -> Float32[np.ndarray, " lip_dim"]:
    """The lips in silence: what a source gives a second into it."""
    shapes = source.push(np.zeros(SAMPLE_RATE, np.float32))
    source.clear()
    return shapes[-1].numpy(force=True).astype(np.float32)
