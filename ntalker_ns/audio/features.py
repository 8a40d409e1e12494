"""Audio features: a protocol, its extractors, and feature files.

Every extractor returns, for each frame at 25 fps, the 16 feature steps at 50 Hz around its time.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio import mel
from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.windows import FEATURE_RATE, WINDOW, windows_of_track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import written_whole

__all__ = [
    "DEFAULT_MODELS",
    "EXTRACTORS",
    "FEATURE_RATE",
    "FPS",
    "SAMPLE_RATE",
    "WINDOW",
    "AudioFeatureExtractor",
    "FeatureInfo",
    "check_same_kind",
    "check_windows",
    "create_extractor",
    "extractor_of",
    "load_features",
    "read_features",
    "save_features",
    "silence_of",
]

EXTRACTORS = ("whisper", "mel", "wav2vec2", "hubert")
"""Names for `create_extractor`."""

DEFAULT_MODELS = {
    "wav2vec2": "cpierse/wav2vec2-large-xlsr-53-esperanto",
    "hubert": "facebook/hubert-large-ls960-ft",
}
"""Hub ids; that of wav2vec 2.0 is RAD-NeRF's, so that its data sets and ours are interchangeable."""

LENGTH_TOLERANCE = 2
"""Frames by which a feature file may be longer or shorter than its clip."""


@dataclass(frozen=True)
class FeatureInfo:
    """Kind of a feature track; stored in the data set, the run and the checkpoint."""

    extractor: str
    """One of `EXTRACTORS`, or the name of the user's feature file."""
    model: str | None
    """Hub id or folder of the extractor's weights; None where it has none."""
    channels: int
    """Width C of a feature step."""
    window: int = WINDOW
    """Feature steps in the window of a frame."""
    fps: float = float(FPS)
    """Frames per second."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureInfo":
        """The inverse of `to_dict`; other keys are ignored."""
        names = cls.__dataclass_fields__
        return cls(**{key: value for key, value in values.items() if key in names})


@runtime_checkable
class AudioFeatureExtractor(Protocol):
    """Turns a waveform into one feature window per video frame."""

    @property
    def info(self) -> FeatureInfo:
        """The kind of the features."""
        ...

    def __call__(
        self, waveform: Float32[np.ndarray, " samples"], num_frames: int
    ) -> Float32[np.ndarray, "num_frames 16 channels"]:
        """The windows of the first `num_frames` frames of a mono 16 kHz waveform."""
        ...


@dataclass(frozen=True)
class _Extractor:
    """An extractor from a function that computes windows."""

    info: FeatureInfo
    windows: Callable[[np.ndarray, int], np.ndarray]

    def __call__(
        self, waveform: Float32[np.ndarray, " samples"], num_frames: int
    ) -> Float32[np.ndarray, "num_frames 16 channels"]:
        _check_waveform(waveform)
        return self.windows(waveform, num_frames)


def create_extractor(name: str, model: str | None = None) -> AudioFeatureExtractor:
    """An extractor by name, its weights loaded.

    Args:
        name: one of `EXTRACTORS`.
        model: hub id or folder of the weights; None takes the one in `DEFAULT_MODELS`. Not for `whisper` and `mel`.

    Raises:
        NTalkerError: there is no such extractor, or its weights cannot be loaded.

    Example:
        >>> create_extractor("mel")(np.zeros(16000, np.float32), 25).shape
        (25, 16, 32)
    """
    if name == "mel":
        return _Extractor(FeatureInfo("mel", None, mel.CHANNELS), mel.mel_windows)
    if name == "whisper":
        from ntalker_ns.audio.whisper import load_whisper

        features = load_whisper()
        return _Extractor(FeatureInfo("whisper", None, features.channels), features.windows)
    if name not in EXTRACTORS:
        raise NTalkerError(f"There are no '{name}' audio features; choose from {', '.join(EXTRACTORS)}.")
    from ntalker_ns.audio.speech_models import load_speech_model

    model = model or DEFAULT_MODELS[name]
    network = load_speech_model(name, model)
    return _Extractor(FeatureInfo(name, model, network.channels), network.windows)


def extractor_of(info: FeatureInfo) -> AudioFeatureExtractor:
    """The extractor that made a feature track, for the same features of new audio.

    Args:
        info: as stored with a data set or run.

    Raises:
        NTalkerError: the track came from a file, or the extractor's weights have another width now.
    """
    if info.extractor not in EXTRACTORS:
        raise NTalkerError(
            f"This head was trained on the feature file '{info.extractor}', which cannot be computed from "
            f"new audio here; give that audio's features as a .npy file of width {info.channels}."
        )
    extractor = create_extractor(info.extractor, info.model)
    check_width(extractor.info.channels, info.channels, f"'{info.extractor}' ({extractor.info.model})")
    return extractor


def silence_of(info: FeatureInfo) -> float | None:
    """The value of all channels in digital silence; None if channels differ or it is not known.

    Args:
        info: as stored with a data set or run.
    """
    return mel.SILENCE if info.extractor == "mel" else None


def check_same_kind(trained: FeatureInfo, given: FeatureInfo) -> None:
    """Checks that features are of the kind that a head was trained on, wherever the extractor's weights are stored.

    Raises:
        NTalkerError: the extractor or the number of channels differ.
    """
    if (trained.extractor, trained.channels) != (given.extractor, given.channels):
        raise NTalkerError(
            f"This head was trained on {trained.extractor} audio features of {trained.channels} channels, but these "
            f"are {given.extractor} features of {given.channels}: use the same extractor for both."
        )


def check_windows(windows: Float32[np.ndarray, "frames window channels"], info: FeatureInfo) -> None:
    """Checks that windows have the shape in `info` and finite values.

    Raises:
        NTalkerError: no frames, another shape, NaN or infinity.
    """
    if windows.ndim != 3 or len(windows) == 0:
        raise NTalkerError(f"Audio features must have shape (frames, window, channels), not {windows.shape}.")
    if windows.shape[1:] != (info.window, info.channels):
        raise NTalkerError(
            f"The audio features have shape {windows.shape[1:]} a frame, but this head was trained with "
            f"{(info.window, info.channels)}."
        )
    finite = np.isfinite(windows).all(axis=(1, 2))
    if not finite.all():
        frame = int(np.argmin(finite))
        raise NTalkerError(f"The audio features hold NaN or infinity, first in frame {frame}: extract them again.")


def check_width(width: int, expected: int, source: str) -> None:
    """Checks that features have the width that the head was trained with.

    Raises:
        NTalkerError: the widths differ.
    """
    if width != expected:
        raise NTalkerError(f"Feature width {width} from {source}: the head was trained with {expected}.")


def load_features(
    path: Path, num_frames: int | None = None, channels: int | None = None
) -> Float32[np.ndarray, "num_frames 16 channels"]:
    """Reads and checks a feature file of the user.

    Args:
        path: a .npy of windows, (frames, 16, C) at 25 fps as AD-NeRF and RAD-NeRF store them, or of a feature
            track, (steps, C) at 50 Hz.
        num_frames: frames of the audio; the file may have up to two more, which are cut, or fewer, which are filled
            with the last window. None: as many as the file has.
        channels: the width C; None: any.

    Raises:
        NTalkerError: the file is missing, is no such array, holds NaN, or has another width or length.
    """
    array = _load_array(Path(path))
    if array.ndim == 3 and array.shape[1] != WINDOW:
        raise NTalkerError(f"'{path}' holds windows of {array.shape[1]} steps; they must have {WINDOW}.")
    if array.ndim not in (2, 3):
        raise NTalkerError(
            f"'{path}' has shape {array.shape}; it must be (frames, {WINDOW}, C) at {FPS} fps or (steps, C) "
            f"at {FEATURE_RATE} Hz."
        )
    if channels is not None:
        check_width(array.shape[-1], channels, f"'{path}'")
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0])
        raise NTalkerError(f"'{path}' holds values that are not numbers, first in row {bad}; extract it again.")
    per_frame = 1 if array.ndim == 3 else FEATURE_RATE // FPS
    frames = len(array) / per_frame
    num_frames = round(frames) if num_frames is None else num_frames
    if abs(frames - num_frames) > LENGTH_TOLERANCE:
        raise NTalkerError(
            f"'{path}' covers {frames:g} frames at {FPS} fps, but the sound has {num_frames}: take those of this sound."
        )
    if array.ndim == 2:
        return windows_of_track(array.astype(np.float32), num_frames)
    return array[np.minimum(np.arange(num_frames), len(array) - 1)].astype(np.float32)


def _load_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise NTalkerError(f"There is no feature file at '{path}'.")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise NTalkerError(f"'{path}' is not a NumPy array file (.npy).") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number) or array.size == 0:
        raise NTalkerError(f"'{path}' does not hold one array of numbers.")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise NTalkerError(f"'{path}' holds complex numbers; features are real.")
    return array


def save_features(folder: Path, windows: Float32[np.ndarray, "frames 16 channels"], info: FeatureInfo) -> None:
    """Writes windows as `NAME.npy` and their kind as `NAME.json`; NAME is the extractor's.

    Args:
        folder: a data set's `audio_features` folder; created if needed.
        windows: one per frame.
        info: their kind.
    """
    folder = Path(folder)
    description = info.to_dict() | {"feature_rate": FEATURE_RATE, "shape": list(windows.shape)}
    array, text = folder / f"{info.extractor}.npy", folder / f"{info.extractor}.json"
    with written_whole(array) as partial_array, written_whole(text) as partial_text:
        np.save(partial_array, windows.astype(np.float32, copy=False))
        partial_text.write_text(json.dumps(description, indent=2) + "\n")


def read_features(folder: Path, name: str) -> tuple[Float32[np.ndarray, "frames 16 channels"], FeatureInfo]:
    """Reads what `save_features` wrote.

    Args:
        folder: a data set's `audio_features` folder.
        name: the extractor's name.

    Returns:
        The windows and their kind.

    Raises:
        NTalkerError: a file is missing or broken, or the two files do not agree.
    """
    description = Path(folder) / f"{name}.json"
    try:
        values = json.loads(description.read_text())
        info = FeatureInfo.from_dict(values)
        frames = int(values["shape"][0])
    except FileNotFoundError as error:
        raise NTalkerError(
            f"There are no '{name}' audio features in '{folder}'; process the clip with --features {name}."
        ) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NTalkerError(f"'{description}' does not describe audio features; process the clip again.") from error
    return load_features(Path(folder) / f"{name}.npy", frames, info.channels), info


def _check_waveform(waveform: np.ndarray) -> None:
    if waveform.ndim != 1 or waveform.size == 0:
        raise NTalkerError(f"Audio features need a mono waveform with samples in it, got shape {waveform.shape}.")
    if not np.isfinite(waveform).all():
        raise NTalkerError("The waveform holds values that are not numbers; export the sound again.")
