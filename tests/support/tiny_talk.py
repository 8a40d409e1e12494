"""A tiny head that speaks, for tests of pages: the tiny run with sounds beside its data."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.media.sound import SAMPLE_RATE, write_wav
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import train_base


def swelling_tone(seconds: float) -> Float32[np.ndarray, " samples"]:
    """A tone that swells twice a second, mono at 16 kHz."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * time) ** 2).astype(np.float32)


def tiny_talking_run(place: Path) -> Path:
    """The folder of a barely trained run of the tiny clip, with a sound of 2 s, tone.wav, beside its data.

    Args:
        place: where data and run go.
    """
    data = write_tiny_clip(place / "anna", channels=CHANNELS)
    write_wav(data / "audio.wav", swelling_tone(22 / 25))
    write_wav(data / "tone.wav", swelling_tone(2.0))
    return train_base(data, place / "outputs", max_num_iterations=60).base_dir
