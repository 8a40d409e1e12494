"""TODO ntalker_ns.driving.new_audio."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ntalker_ns.driving.sequence import DrivingSequence


def sequence_for_audio(sequence: "DrivingSequence", audio: Path, features: Path | None = None) -> "DrivingSequence":
    """The sequence that lets a head speak new audio.

    Args:
        sequence: the clip's own driving sequence.
        audio: a sound or video file of any format and rate.
        features: its features as a .npy file; None computes them with the extractor the head was trained on.

    Raises:
        NTalkerError: the sound cannot be read or the features do not fit the head.
    """
    from ntalker_ns.audio.clock import frame_count
    from ntalker_ns.audio.features import FeatureInfo, extractor_of, load_features
    from ntalker_ns.audio.io import read_audio

    waveform = read_audio(audio)
    count = frame_count(len(waveform))
    info = FeatureInfo.from_dict(sequence.feature_info)
    if features is not None:
        return sequence.with_features(load_features(features, count, info.channels), sequence.feature_info)
    return sequence.with_features(extractor_of(info)(waveform, count), sequence.feature_info)


def features_of_file(
    path: Path, driving: DrivingSequence
) -> tuple[Float[np.ndarray, "n window channels"], dict[str, Any]]:
    """Feature windows of new audio, by the extractor that the head was trained with.

    Args:
        path: an audio or video file, or a .npy of feature windows made elsewhere.
        driving: whose extractor is used.

    Raises:
        NTalkerError: the file cannot be read, or the extractor is not available.
    """
    from ntalker_ns.audio.features import load_features

    info = driving.feature_info
    if path.suffix == ".npy":
        return load_features(path, channels=info["channels"]), info
    modified = path.stat().st_mtime_ns
    return _features_from_audio(path.resolve(), modified, tuple(sorted(info.items())), driving.fps), info


@lru_cache(maxsize=1)  # Stock commands build a second data manager; speech models take seconds.
def _features_from_audio(
    path: Path, modified: int, info_items: tuple[tuple[str, Any], ...], fps: float
) -> Float[np.ndarray, "n window channels"]:
    from ntalker_ns.audio.clock import SAMPLE_RATE, frame_count
    from ntalker_ns.audio.features import FeatureInfo, extractor_of
    from ntalker_ns.audio.io import read_audio

    waveform = read_audio(path)
    extractor = extractor_of(FeatureInfo.from_dict(dict(info_items)))
    return extractor(waveform, frame_count(len(waveform), SAMPLE_RATE, fps))
