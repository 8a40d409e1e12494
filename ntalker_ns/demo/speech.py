"""What the demo's head is trained on and what it says, in synthetic speech."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ntalker_ns.media.espeak import synthesize
from ntalker_ns.media.sound import write_wav

TRAINING_TEXT = (
    "Good evening, and welcome to the observatory. Tonight we look at the moon, "
    "and at the bright planets around it. Our mirror is as wide as a house, and we open the roof after dark. "
    "Mars shows a warm amber colour, while far above it a pale blue star appears. "
    "Wait a moment. Now you may come closer and watch. "
    "Each of these lights left home before anybody here was born; how odd that is! "
    "My father built the first of our cameras, out of paper and glass, in a barn by the sea."
)
"""What the demo's head is trained on: every English vowel, several pauses, about 27 s."""

NEW_TEXT = (
    "Hello there. I have never spoken these words before. "
    "A voice you record today may drive my mouth tomorrow. "
    "Are you all right with that? Let us have a walk, and talk about apples, boats and far away islands."
)
"""What the demo's head says after training, about 11 s; no sentence of it is in `TRAINING_TEXT`."""


def speech_of_length(text: str, seconds: float) -> tuple[Float32[np.ndarray, "samples"], int]:
    """Speaks a text, again from the start where it ends, for an exact duration, with a short fade at the end.

    Args:
        text: what to say.
        seconds: the duration wanted, s.

    Returns:
        The mono waveform in [-1, 1] and its sample rate in Hz.
    """
    spoken, sample_rate = synthesize(text)
    wanted = round(seconds * sample_rate)
    waveform = np.resize(spoken, wanted)
    fade = min(wanted, sample_rate // 20)
    waveform[wanted - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return waveform, sample_rate


def write_speech(path: Path, text: str, seconds: float | None = None) -> Path:
    """Speaks a text into a wav file.

    Args:
        path: the file to write.
        text: what to say.
        seconds: an exact duration in s, or None for as long as the text takes.
    """
    waveform, sample_rate = synthesize(text) if seconds is None else speech_of_length(text, seconds)
    write_wav(path, waveform, sample_rate)
    return path
