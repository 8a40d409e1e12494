"""The audio clock: which frame is when, and which clip frame a new frame replays."""

import numpy as np
from jaxtyping import Int64

SAMPLE_RATE = 16000
"""Samples per second of every waveform inside the project."""

FPS = 25
"""Video frames per second of every driving sequence."""


def frame_count(samples: int, sample_rate: int = SAMPLE_RATE, fps: float = FPS) -> int:
    """The number of video frames nearest to a sound's length, at least one.

    Args:
        samples: length of the sound, in samples.
        sample_rate: samples per second.
        fps: frames per second.

    Returns:
        The frame count; its duration is within half a frame of the sound's, unless the sound is shorter.

    Example:
        >>> frame_count(128000, 16000, 25)
        200
    """
    return max(1, int(samples * fps / sample_rate + 0.5))


def time_of_frame(frame: int, count: int) -> float:
    """A frame's place in the audio, as `Cameras.times` carries it.

    Args:
        frame: index in [0, count).
        count: number of frames of the clip that drives the head.

    Returns:
        frame / (count - 1), in [0, 1]; 0 for a clip of one frame.
    """
    return frame / (count - 1) if count > 1 else 0.0


def mirrored_replay(new_count: int, clip_count: int) -> Int64[np.ndarray, " new_count"]:
    """Plays a clip back and forth, 0, 1, .., n-1, n-2, .., 1, 0, 1, .., never jumping nor repeating an end.

    Args:
        new_count: number of frames to fill.
        clip_count: number of frames of the clip, at least 1.

    Returns:
        The clip frame that each new frame shows.

    Example:
        >>> mirrored_replay(6, 3).tolist()
        [0, 1, 2, 1, 0, 1]
    """
    period = max(1, 2 * (clip_count - 1))
    phase = np.arange(new_count, dtype=np.int64) % period
    return np.minimum(phase, period - phase) if clip_count > 1 else phase
