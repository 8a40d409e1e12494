"""How the made-up head moves: a mouth that follows its speech, blinks, and a slowly swaying head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

ENVELOPE_RATE = 100
"""Rate at which loudness is measured, Hz."""


@dataclass(frozen=True)
class Motion:
    """What moves in each frame of a clip.

    Attributes:
        mouth_opening: (n,) gap between the inner lips over the face's height; 0 is closed.
        blink: (n,) 0 open, 1 closed.
        angles: (n, 3) pitch, yaw and roll of the head, radians.
        shifts: (n, 3) the head's translation in camera axes (x right, y down, z away), in head widths.
    """

    mouth_opening: Float[np.ndarray, "n"]
    blink: Float[np.ndarray, "n"]
    angles: Float[np.ndarray, "n 3"]
    shifts: Float[np.ndarray, "n 3"]


def make_motion(
    waveform: Float32[np.ndarray, "samples"], sample_rate: int, frames: int, fps: float, seed: int
) -> Motion:
    """Draws the motion of a clip: the mouth from its sound, the rest at random.

    Args:
        waveform: mono speech in [-1, 1].
        sample_rate: its rate, Hz.
        frames: how many frames the clip has.
        fps: frames a second.
        seed: draws blinks and head motion.
    """
    rng = np.random.default_rng(seed)
    seconds = np.arange(frames) / fps
    angles = np.radians([4.0, 10.0, 3.5]) * np.stack([_sway(seconds, rng) for _ in range(3)], axis=1)
    shifts = np.array([0.05, 0.03, 0.06]) * np.stack([_sway(seconds, rng) for _ in range(3)], axis=1)
    return Motion(mouth_opening_of_speech(waveform, sample_rate, seconds), blinks(seconds, rng), angles, shifts)


def mouth_opening_of_speech(
    waveform: Float32[np.ndarray, "samples"],
    sample_rate: int,
    seconds: Float[np.ndarray, "n"],
    widest: float = 0.14,
) -> Float[np.ndarray, "n"]:
    """How far a jaw opens for a sound: the loudness of the first formant of open vowels, smoothed both ways.

    Open vowels have their first formant at 500 to 1,000 Hz and are loud; closed vowels, nasals and hiss have little
    energy there. A zero-phase low-pass at 5 Hz keeps the jaw's inertia without making it late.

    Args:
        waveform: mono speech in [-1, 1].
        sample_rate: its rate, Hz.
        seconds: times in s.
        widest: the opening of the loudest vowel, over the face's height.

    Returns:
        The opening at each time, over the face's height, 0 in silence.
    """
    from scipy.signal import butter, sosfiltfilt

    vowel = sosfiltfilt(butter(2, [450.0, 1100.0], "bandpass", fs=sample_rate, output="sos"), waveform)
    hop = sample_rate // ENVELOPE_RATE
    blocks = vowel[: len(vowel) // hop * hop].reshape(-1, hop)
    loudness = 20.0 * np.log10(np.sqrt(np.mean(blocks**2, axis=1)) + 1e-5)
    loudest = max(float(np.percentile(loudness, 98)), -60.0)
    jaw = np.clip((loudness - (loudest - 30.0)) / 30.0, 0.0, 1.0) ** 1.5
    smooth = sosfiltfilt(butter(2, 5.0, fs=ENVELOPE_RATE, output="sos"), jaw)
    block_centres = (np.arange(len(smooth)) + 0.5) * hop / sample_rate
    return widest * np.clip(np.interp(seconds, block_centres, smooth), 0.0, 1.0)


def blinks(seconds: Float[np.ndarray, "n"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """Blinks at random intervals of 1.5 to 4 s, each closing in 0.1 s and opening in 0.2 s.

    Args:
        seconds: the times of the frames, s.
        rng: draws the intervals.

    Returns:
        0 open, 1 closed, at each time.
    """
    closed = np.zeros(len(seconds))
    centre = rng.uniform(0.6, 1.6)
    while centre < seconds[-1]:
        offset = seconds - centre
        bump = np.where(offset < 0.0, 1.0 + offset / 0.1, 1.0 - offset / 0.2)
        closed = np.maximum(closed, np.clip(bump, 0.0, 1.0))
        centre += rng.uniform(1.5, 4.0)
    return closed * closed * (3.0 - 2.0 * closed)


def _sway(seconds: Float[np.ndarray, "n"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """A smooth curve in [-1, 1]: three slow sines of random phase."""
    hertz = np.array([0.17, 0.36, 0.58]) * rng.uniform(0.85, 1.15, 3)
    weights = np.array([0.5, 0.32, 0.18])
    return np.sin(2.0 * np.pi * (seconds[:, None] * hertz + rng.uniform(0.0, 1.0, 3))) @ weights
