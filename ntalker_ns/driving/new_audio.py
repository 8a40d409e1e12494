"""New audio for a head: its features drive the clip's poses, played back and forth."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ntalker_ns.audio.clock import frame_count
from ntalker_ns.audio.features import FeatureInfo, extractor_of, load_features
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.media.sound import SAMPLE_RATE, Sound, read_sound
from ntalker_ns.speech.closures import Closure, closed_frames


def sequence_for_audio(
    sequence: DrivingSequence,
    audio: Path | Sound,
    features: Path | None = None,
    closures: list[Closure] | None = None,
) -> DrivingSequence:
    """The sequence in which a head speaks new audio.

    Args:
        sequence: the clip's own driving sequence.
        audio: a sound or video file of any format and rate, its decoded sound, or a .npy of its feature windows.
        features: feature windows of the sound as a .npy file; None computes them with the extractor that the head was
            trained with.
        closures: when the phonemes that are spoken close the lips, if they are known.

    Raises:
        NTalkerError: a file cannot be read, the features do not fit the head, or its extractor is not available.
    """
    windows = new_features(sequence, audio, features)
    closed = None if closures is None else closed_frames(closures, len(windows))
    return sequence.with_features(windows, closed)


def new_features(
    sequence: DrivingSequence, audio: Path | Sound, features: Path | None = None
) -> Float[np.ndarray, "n window channels"]:
    """The feature windows of new audio; arguments and errors are those of `sequence_for_audio`."""
    info = sequence.feature_info
    if isinstance(audio, Path) and audio.suffix == ".npy":
        return load_features(audio, channels=info.channels)
    if isinstance(audio, Path) and features is None:
        return _features_of_file(audio.resolve(), audio.stat().st_mtime_ns, info, sequence.fps)
    waveform = (read_sound(audio) if isinstance(audio, Path) else audio).waveform()
    if features is not None:
        return load_features(features, frame_count(len(waveform), SAMPLE_RATE, sequence.fps), info.channels)
    return _extracted(waveform, info, sequence.fps)


@lru_cache(maxsize=1)  # Stock commands build a second data manager; speech models take seconds.
def _features_of_file(path: Path, modified: int, info: FeatureInfo, fps: float) -> Float[np.ndarray, "n window chan"]:
    return _extracted(read_sound(path).waveform(), info, fps)


def _extracted(
    waveform: Float[np.ndarray, " samples"], info: FeatureInfo, fps: float
) -> Float[np.ndarray, "n window channels"]:
    return extractor_of(info)(waveform, frame_count(len(waveform), SAMPLE_RATE, fps))
