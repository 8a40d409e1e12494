"""Training examples of silence: a clip of seconds may not show any, and new speech has pauses."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.features import FeatureInfo, create_extractor, silence_of

LOUDNESSES = (0.0, 0.3, 0.6)
"""Loudness of the examples above silence, in units of mel features (14 dB)."""

NOISE_LEVELS = (-60.0, -45.0, -35.0)
"""dBFS of the room noise in examples of features other than mel."""

MODELS = ("wav2vec2", "hubert")
"""Extractors whose weights may not be on the machine."""

SPEECH_LEVEL = -25.0
"""dBFS of speech."""

CLOSED = 5.0
"""Percentile of the mouth openings up to which a mouth counts as closed."""


def silence_examples(
    info: FeatureInfo, lip_shapes: Float[np.ndarray, "frames lip_dim"], openings: Float[np.ndarray, " frames"]
) -> tuple[Float[Tensor, "silent window channels"], Float[Tensor, "silent lip_dim"]]:
    """Feature windows without speech, and the lip shape of closed mouths for each.

    Args:
        info: of the features.
        lip_shapes: of the training frames.
        openings: of the mouth in those frames, NaN where unknown.

    Returns:
        None where the features of silence or all openings are unknown.
    """
    windows, known = silent_windows(info), np.isfinite(openings)
    if info.extractor in MODELS and not len(windows):
        print(f"The weights '{info.model}' of {info.extractor} are not here: lips may not close where speech pauses.")
    if not len(windows) or not known.any():
        return torch.zeros(0, info.window, info.channels), torch.zeros(0, lip_shapes.shape[1])
    closed = lip_shapes[openings <= np.percentile(openings[known], CLOSED)].mean(axis=0)
    return windows, torch.from_numpy(closed).float().expand(len(windows), -1)


def silent_windows(info: FeatureInfo) -> Float[Tensor, "silent window channels"]:
    """Feature windows of silence and of room noise; none where they are unknown.

    Args:
        info: of the features.
    """
    if info.extractor == "whisper" or _is_here(info):
        return _extracted(info.extractor, info.model)
    silence = silence_of(info)
    if silence is None:
        return torch.zeros(0, info.window, info.channels)
    levels = torch.from_numpy(silence + np.array(LOUDNESSES)).float()
    return levels[:, None, None].expand(-1, info.window, info.channels)


def most_silent_windows(info: FeatureInfo) -> int:
    """How many `silent_windows` there are where the weights are: a checkpoint has the same size on every machine."""
    if info.extractor in MODELS:
        return (1 + 2 * len(NOISE_LEVELS)) * (FPS // 2)
    return len(silent_windows(info))


def _is_here(info: FeatureInfo) -> bool:
    """Whether a transformer's weights are on this machine: they are not downloaded for the sake of silence."""
    if info.extractor not in MODELS or info.model is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return Path(info.model).is_dir() or isinstance(try_to_load_from_cache(info.model, "config.json"), str)


@lru_cache(maxsize=1)
def _extracted(name: str, model: str | None) -> Float[Tensor, "silent window channels"]:
    """Of each sound the middle half second.

    A louder sound follows: some transformers normalise the whole, and silence alone would become as loud as speech.
    """
    extractor = create_extractor(name, None if name == "whisper" else model)
    loud = np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE) * 10.0 ** (SPEECH_LEVEL / 20.0)
    followed = [np.concatenate([sound, loud.astype(np.float32)]) for sound in room_sounds(3.0)]
    sounds = room_sounds(3.0) if name == "whisper" else followed
    parts = [extractor(sound, 3 * FPS)[FPS : FPS + FPS // 2] for sound in sounds]
    return torch.from_numpy(np.concatenate(parts))


def room_sounds(seconds: float) -> list[Float32[np.ndarray, " samples"]]:
    """Digital silence, and white and brown noise at `NOISE_LEVELS`; the same in each run.

    Args:
        seconds: duration of each.
    """
    rng = np.random.default_rng(0)
    white = rng.standard_normal(round(seconds * SAMPLE_RATE))
    brown = np.cumsum(white)
    brown -= np.convolve(brown, np.ones(400) / 400, mode="same")
    sounds = [np.zeros(len(white), np.float32)]
    for noise in (white, brown):
        sounds += [(10.0 ** (level / 20.0) * noise / noise.std()).astype(np.float32) for level in NOISE_LEVELS]
    return sounds
