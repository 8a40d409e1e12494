"""Pictures of any head for a live session, and the size of them that a machine keeps up with."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from ntalker_ns.console import progress_bar
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.live.stage import LiveOptions, Stage
from ntalker_ns.media.video_reader import FPS
from ntalker_ns.rendering.background import Background
from ntalker_ns.rendering.display import DisplayOptions

SIZES = (512, 384, 256, 192, 128)
"""Longest sides of pictures, px, from which `fitting_size` chooses."""
COARSER = 2
"""Factor by which the resolution of coarse pictures is lower."""
QUALITY = 85
"""Of JPEG pictures, 0 to 100."""
WARM, TIMED = 2, 6
"""Pictures of a size that are rendered before, and while, the clock runs."""


@runtime_checkable
class Pictures(Protocol):
    """Interface between an engine and a head."""

    edited: bool
    """Whether it has a refinement network."""
    before: Any
    """The head before its edit, where it is there."""

    def render(
        self,
        look: LiveOptions,
        frame: int,
        lips: Float32[np.ndarray, " lip_dim"],
        openness: float,
        coarse: bool = False,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A picture, see `HeadPictures.render`."""
        ...


class HeadPictures:
    """Renders a head for sessions. It uses a model's camera interface only, so any head can be used."""

    def __init__(self, model: Any, stage: Stage, size: int, before: "HeadPictures | None" = None) -> None:
        """
        Args:
            model: of a run; it is driven by the stage's sequence from now on.
            stage: poses and eyes.
            size: longest side of the pictures, px.
            before: the head before its edit, of the same stage and size.
        """
        self._model, self.before = model, before
        self.edited = model.edited
        self._stage = stage
        model.set_driving(stage.sequence)
        self.resize(size)

    def resize(self, size: int) -> None:
        """Sets the longest side of the pictures, px."""
        self.size = size
        self._cameras, self._coarse = (
            sequence_cameras(self._stage.sequence, size=each, enlarge=True) for each in (size, size // COARSER)
        )

    def render(
        self,
        look: LiveOptions,
        frame: int,
        lips: Float32[np.ndarray, " lip_dim"],
        openness: float,
        coarse: bool = False,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A picture.

        Args:
            look: background and refinement.
            frame: of the stage's sequence.
            lips: the lip shape.
            openness: of the eyes, 0 to 1.
            coarse: whether it is rendered at a resolution lower by `COARSER`, and enlarged.
        """
        import cv2

        model = self._model
        model.show_face(torch.from_numpy(lips), openness)
        display = DisplayOptions(Background.parse(look.background), look.refinement)
        camera = (self._coarse if coarse else self._cameras)[frame : frame + 1]
        picture = model.video_frame(camera, display)
        if coarse:
            width, height = (int(each[frame]) for each in (self._cameras.width, self._cameras.height))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
        if self.before is not None and (column := round(look.wipe * picture.shape[1])) > 0:
            picture[:, :column] = self.before.render(look, frame, lips, openness, coarse)[:, :column]
        return picture


def compressed(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as JPEG."""
    import cv2

    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


@dataclass(frozen=True)
class Speed:
    """What a machine keeps up with."""

    size: int
    """Longest side of the pictures, px."""
    rate: float
    """Pictures per second, rendered and compressed."""

    def __str__(self) -> str:
        kept = f"{self.rate:.0f} frames/s"
        enough = "" if self.rate >= FPS else f", fewer than {FPS}: pictures are left out, the sound is not"
        return f"{self.size} px: this machine keeps {kept}{enough}."


def measured_speed(picture: Callable[[int], None], size: int) -> Speed:
    """How many pictures of a size are rendered per second.

    Args:
        picture: renders the picture of a frame.
        size: for the answer.
    """
    for frame in range(WARM):
        picture(frame)
    seconds = []
    for frame in range(WARM, WARM + TIMED):
        begin = time.perf_counter()
        picture(frame)
        seconds.append(time.perf_counter() - begin)
    return Speed(size, 1.0 / max(median(seconds), 1e-6))


def fitting_size(speed_at: Callable[[int], Speed], sizes: tuple[int, ...] = SIZES, rate: float = FPS) -> Speed:
    """The largest size that keeps a rate, or the smallest one where none does.

    Args:
        speed_at: measures a size.
        sizes: descending.
        rate: pictures per second.
    """
    with progress_bar() as bar:
        task = bar.add_task("Trying picture sizes", total=len(sizes))
        for size in sizes[:-1]:
            if (speed := speed_at(size)).rate >= rate:
                return speed
            bar.update(task, advance=1)
        return speed_at(sizes[-1])
