"""The audio clock: the time of each frame, and the clip frame that a new frame replays."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from ntalker_ns.media.sound import SAMPLE_RATE
from ntalker_ns.media.video_reader import FPS


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


def times_of_frames(frames: Any, num_frames: int) -> Any:
    """Times of frames in [0, 1], as `Cameras.times` carries them: frame / (num_frames - 1); 0 for a single frame.

    Args:
        frames: numbers, an array or a tensor; fractions of a frame are allowed.
        num_frames: of the clip that drives the head.
    """
    return frames / max(num_frames - 1, 1)


def frames_of_times(times: Any, num_frames: int) -> Any:
    """The inverse of `times_of_frames`, not rounded: the frame nearest to a time is its rounding."""
    return times * max(num_frames - 1, 1)


def frame_times(num_frames: int) -> Float[np.ndarray, " n"]:
    """The time of every frame, float32."""
    return times_of_frames(np.arange(num_frames), num_frames).astype(np.float32)


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
