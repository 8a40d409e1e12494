"""Frames of random numbers, and what a detector says of frames without a face."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ntalker_ns.data.frame_cache import Frame


def random_frames(num_frames: int, width: int, height: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [
        Frame(
            image=rng.integers(0, 256, (height, width, 3), np.uint8),
            headless_frame=rng.integers(0, 256, (height, width, 3), np.uint8),
            labels=rng.integers(0, 5, (height, width), np.uint8),
            face_mask=rng.random((height, width)) < 0.5,
        )
        for _ in range(num_frames)
    ]


def no_faces(pictures: Iterable[Any]) -> np.ndarray:
    """As `face_points` on pictures without any."""
    return np.full((sum(1 for _ in pictures), 478, 3), np.nan)
