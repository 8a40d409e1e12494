"""A live head without a model: lips that are the loudness of the sound, and pictures that show them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from ntalker_ns.live.engine import Engine
from ntalker_ns.live.pictures import Speed, compressed
from ntalker_ns.live.stage import LiveOptions
from ntalker_ns.live.voice import BLOCK
from support.live_stage import make_stage

AHEAD = 1200
"""Samples of sound after a frame's begin that its lips wait for."""


class LoudnessLips:
    """One number a frame, the loudness of its 40 ms, which come out `AHEAD` samples after its begin."""

    def __init__(self) -> None:
        self.clear()

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Float[Tensor, "frames 1"]:
        self._sound = np.concatenate([self._sound, samples])
        return self._frames(max(0, (len(self._sound) - AHEAD) // BLOCK + 1) if len(self._sound) >= AHEAD else 0)

    def flush(self) -> Float[Tensor, "frames 1"]:
        left = self._frames(int(len(self._sound) / BLOCK + 0.5))
        self.clear()
        return left

    def clear(self) -> None:
        self._sound, self._done = np.zeros(0, np.float32), 0

    def _frames(self, until: int) -> Float[Tensor, "frames 1"]:
        pieces = [self._sound[i * BLOCK : (i + 1) * BLOCK] for i in range(self._done, until)]
        self._done = max(self._done, until)
        return torch.tensor([[float(np.abs(piece).max())] for piece in pieces]).view(-1, 1)


class SixLips(LoudnessLips):
    """The shapes of a head's basis, of which the first is the loudness."""

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Float[Tensor, "frames 6"]:
        return torch.nn.functional.pad(super().push(samples), (0, 5))

    def flush(self) -> Float[Tensor, "frames 6"]:
        return torch.nn.functional.pad(super().flush(), (0, 5))


class DrawnPictures:
    """Pictures of 48 px in the background's colour, with a white bar as high as the lips are open."""

    def __init__(self, seconds: float = 0.002, edited: bool = False) -> None:
        self.seconds, self.edited, self.before = seconds, edited, None
        self.coarse: list[bool] = []

    def render(
        self, look: LiveOptions, frame: int, lips: Float32[np.ndarray, " 1"], openness: float, coarse: bool = False
    ) -> UInt8[np.ndarray, "h w 3"]:
        self.coarse.append(coarse)
        time.sleep(self.seconds)
        name = "#28285a" if look.background == "plate" else look.background
        colour = [int(name[i : i + 2], 16) for i in (1, 3, 5)]
        picture = np.full((48, 48, 3), colour, np.uint8)
        picture[4 : 4 + max(1, round(40 * float(np.clip(lips[0], 0, 1)))), 16:32] = 255
        return picture


@contextmanager
def drawn_engine(seconds: float = 0.002, sessions: int = 1, edited: bool = False) -> Iterator[Engine]:
    """An engine that runs.

    Args:
        seconds: that a picture takes.
        sessions: at once.
        edited: whether the head says that it is an edited one.
    """
    compressed(np.zeros((48, 48, 3), np.uint8))  # loads what it needs
    speed = Speed(48, 1.0 / max(seconds, 0.002))
    rest = np.zeros(1, np.float32)
    engine = Engine(DrawnPictures(seconds, edited), make_stage(), LoudnessLips, rest, speed, sessions)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
