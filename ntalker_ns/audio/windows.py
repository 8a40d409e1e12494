"""Windows over a 50 Hz feature track: the sound around each video frame."""

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.clock import FPS

WINDOW = 16
"""Feature steps in the window of a frame: 0.32 s."""

FEATURE_RATE = 50
"""Feature steps per second."""

HOP = 320
"""Samples per feature step at 16 kHz."""


def windows_of_track(
    track: Float32[np.ndarray, "steps channels"], num_frames: int, padding: float = 0.0
) -> Float32[np.ndarray, "num_frames 16 channels"]:
    """Cuts the window around each frame out of a feature track.

    Step k stands for the sound from k/50 to (k+1)/50 s. Frame i, at i/25 s, gets the steps 2i-8 .. 2i+7, so
    that the window's middle is the frame's time: the convention of AD-NeRF, RAD-NeRF and ER-NeRF. A window
    depends on nothing but its 16 steps, so a stream needs 0.16 s of sound beyond the frame it shows.

    Args:
        track: features at 50 Hz.
        num_frames: number of frames at 25 fps.
        padding: the value of steps before the first and after the last.

    Returns:
        One window for each frame.
    """
    stride, half = FEATURE_RATE // FPS, WINDOW // 2
    steps = stride * np.arange(num_frames)[:, None] - half + np.arange(WINDOW)[None, :]
    inside = (steps >= 0) & (steps < len(track))
    windows = np.full((num_frames, WINDOW, track.shape[1]), padding, np.float32)
    windows[inside] = track[steps[inside]]
    return windows
