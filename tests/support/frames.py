"""Frames of random numbers."""

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
