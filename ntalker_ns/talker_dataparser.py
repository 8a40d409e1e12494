"""The data parser: a processed clip, or the driving folder of a run, becomes cameras with a place in the audio."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.data.clip import Clip
from ntalker_ns.data.readers import is_clip, read_clip
from ntalker_ns.driving.build import build_driving
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError

Holdout = Literal["tail", "validation", "third-1", "third-2", "third-3", "none"]
POSE_TOLERANCE = 1e-3
OPTION = "--pipeline.datamanager.dataparser."
"""What the names of the configuration's fields begin with on a command line."""


@dataclass
class TalkerDataParserConfig(DataParserConfig):
    """Data of a talking head: a data set, or new audio for a loaded run."""

    _target: type = field(default_factory=lambda: TalkerDataParser)
    """Target class to instantiate."""
    data: Path = Path()
    """Data set written by `ntalker process`, or one of AD-NeRF, RAD-NeRF or ER-NeRF. For a loaded run also an audio or
    video file, or a .npy of feature windows, which the head then speaks."""
    image_size: int | None = None
    """Longest side of the training frames in px; None keeps the data set's size. Frames are never enlarged."""
    max_frames: int | None = None
    """Number of frames used, from the clip's start; None uses all."""
    features: str | None = None
    """Name of the audio features in the data set's audio_features folder; None takes its default."""
    holdout: Holdout = "tail"
    """Frames held out for evaluation. tail: the last eleventh. validation (for tuning): the last tenth of the other
    frames; the tail is not used. third-1, third-2, third-3: a third of the clip. none: all frames are trained on, and
    the tail is evaluated."""
    driving: Path | None = None
    """Folder of the run's driving sequence, written when training starts. With it a run can be viewed, rendered and
    driven by new audio without its data set."""


@dataclass(frozen=True)
class Source:
    """What `data` and `driving` refer to."""

    driving: DrivingSequence
    clip: Clip | None
    """The frames, where they are there and belong to the driving sequence."""
    no_frames: str
    """Why there are none, as a sentence."""
    new_audio: bool
    """Whether the driving sequence speaks other audio than the clip's."""


class TalkerDataParser(DataParser):
    """Gives cameras with times; the driving sequence and the frames travel in the metadata."""

    config: TalkerDataParserConfig
    includes_time: bool = True

    def __init__(self, config: TalkerDataParserConfig):
        super().__init__(config)
        self._source: Source | None = None

    def source(self) -> Source:
        """Reads driving sequence and data set, once for all splits.

        Raises:
            NTalkerError: neither is there, or what is there cannot be used.
        """
        if self._source is None:
            self._source = find_source(self.config)
        return self._source

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        source = self.source()
        driving = source.driving
        tracked = np.ones(len(driving), bool) if source.clip is None else source.clip.tracked
        frames = (
            np.arange(len(driving)) if source.new_audio else frames_of_split(driving.track.is_train, tracked, split)
        )
        metadata = {
            "driving": driving,
            "frame_indices": frames,
            "clip": source.clip,
            "no_frames": source.no_frames,
        }
        return DataparserOutputs(
            image_filenames=_image_filenames(source, frames),
            cameras=sequence_cameras(driving, frames, self.config.image_size),
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]])),
            metadata=metadata,
        )


def _image_filenames(source: Source, frames: Int64[np.ndarray, " m"]) -> list[Path]:
    """A name for each image, unique; without frames nothing lies there, it only names what is rendered."""
    if source.clip is not None:
        return [source.clip.image_paths[frame] for frame in frames]
    folder = source.driving.folder or Path()
    return [folder / "frames" / f"{frame:05d}.jpg" for frame in frames]


def find_source(config: TalkerDataParserConfig) -> Source:
    """Reads what `data` and `driving` name.

    Raises:
        NTalkerError: neither is there, or what is there cannot be used.
    """
    data = Path(config.data)
    if config.driving is None:
        clip, driving = read_training_clip(config)
        return Source(driving, clip, "", new_audio=False)
    driving = DrivingSequence.load(Path(config.driving))
    if data.is_file():
        reason = f"{data} is new audio: there are no true frames to compare with or to train on."
        return Source(sequence_for_audio(driving, data), None, reason, new_audio=True)
    if not is_clip(data) and is_same_place(data, driving.source):
        data = Path(driving.source)
    if is_clip(data):
        clip, reason = _matching_clip(data, driving)
        return Source(driving, clip, reason, new_audio=False)
    if not is_same_place(data, driving.source):
        raise NTalkerError(f"There is neither an audio file nor a data set at {data}.")
    reason = f"The frames of the data set are needed for this, and {driving.source} is not there."
    return Source(driving, None, reason, new_audio=False)


def _matching_clip(data: Path, driving: DrivingSequence) -> tuple[Clip | None, str]:
    """The data set, if its frames are those that the driving sequence was read from; else the reason why not."""
    try:
        clip = read_clip(data)
    except NTalkerError as error:  # A data set that is broken by now is no hindrance to rendering.
        return None, str(error)
    if len(clip) >= driving.num_clip_frames:
        clip = clip.first(driving.num_clip_frames)
        same_size = clip.size == driving.camera.size
        if same_size and np.allclose(clip.camera_to_worlds, driving.track.camera_to_worlds, atol=POSE_TOLERANCE):
            return clip, ""
    return (
        None,
        f"The frames of the data set are needed for this, but {data} is not as it was when this run was trained.",
    )


def is_same_place(path: Path, recorded: str) -> bool:
    """Whether a path, perhaps relative to another working folder, is the recorded absolute one."""
    if path.resolve() == Path(recorded):
        return True
    parts = [part for part in path.parts if part not in ("..", ".")]
    return bool(parts) and not path.is_absolute() and list(Path(recorded).parts[-len(parts) :]) == parts


def read_training_clip(config: TalkerDataParserConfig) -> tuple[Clip, DrivingSequence]:
    """Reads a data set, cut to `max_frames` and without what `holdout` leaves out, and its driving sequence.

    Raises:
        NTalkerError: it is no data set, or one that cannot be used.
    """
    for name, value, least in (("max-frames", config.max_frames, 1), ("image-size", config.image_size, 16)):
        if value is not None and value < least:
            raise NTalkerError(f"{OPTION}{name} must be at least {least}, not {value}.")
    data = Path(config.data)
    if data.is_file():
        raise NTalkerError(
            f"--data {data} is a file: training needs a data set (`ntalker process CLIP`); a file drives a head that "
            "has been trained."
        )
    clip = read_clip(data)
    stored = max(clip.size)
    if config.image_size is not None and config.image_size > stored:
        CONSOLE.print(f"The frames of {data} have {stored} px and are not enlarged to {OPTION}image-size.")
    if config.max_frames is not None:
        clip = clip.first(config.max_frames)
    is_train = train_frames(clip.tracked, config.holdout, clip.is_train)
    clip = clip.first(len(is_train))
    splits = [frames_of_split(is_train, clip.tracked, split) for split in ("train", "val")]
    if not all(map(len, splits)):
        shown = int(clip.tracked.sum())
        raise NTalkerError(
            f"{data} has {shown} frame{'' if shown == 1 else 's'} with a face, too few to hold some out: use "
            f"{OPTION}holdout none or more frames."
        )
    return clip, build_driving(clip, is_train, config.features)


def train_frames(
    tracked: Bool[np.ndarray, " n"], holdout: Holdout, own: Bool[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, " used"]:
    """Which frames belong to the training split, untracked ones among them.

    Args:
        tracked: the clip's frames that can be trained on or judged; shares of the clip are counted in these.
        holdout: see `TalkerDataParserConfig.holdout`.
        own: the data set's own split; where its held-out frames are the clip's end, they are the tail.

    Returns:
        True for training frames. Shorter than the clip where the tail is left out.
    """
    num_frames, tail = len(tracked), _start_of_tail(tracked, own)
    is_train = np.ones(num_frames, bool)
    if holdout == "tail":
        is_train[tail:] = False
    elif holdout == "validation":
        is_train = is_train[:tail]
        is_train[_start_of_last(tracked[:tail], 10) :] = False
    elif holdout != "none":
        third = int(holdout[-1])
        is_train[(third - 1) * num_frames // 3 : third * num_frames // 3] = False
    return is_train


def _start_of_tail(tracked: Bool[np.ndarray, " n"], own: Bool[np.ndarray, " n"] | None) -> int:
    if own is not None and own.any() and not own.all():
        start = int(np.argmin(own))
        if not own[start:].any():
            return start
    return _start_of_last(tracked, 11)


def _start_of_last(tracked: Bool[np.ndarray, " n"], parts: int) -> int:
    """The first frame of the last of so many parts, each with as many tracked frames."""
    frames = np.flatnonzero(tracked)
    return int(frames[len(frames) - -(-len(frames) // parts)]) if len(frames) else len(tracked)


def frames_of_split(
    is_train: Bool[np.ndarray, " n"], tracked: Bool[np.ndarray, " n"], split: str
) -> Int64[np.ndarray, " m"]:
    """Tracked frames of "train", or of any other split: those held out, or the tail where none are."""
    if split == "train":
        return np.flatnonzero(is_train & tracked)
    held_out = np.arange(len(tracked)) >= _start_of_tail(tracked, None) if is_train.all() else ~is_train
    return np.flatnonzero(held_out & tracked)
