"""The driving sequence: everything that moves a head, apart from the head itself.

It is written into the run folder when training starts, so that a run can be rendered, viewed and driven by new audio
where the data set is not.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from ntalker_ns import __version__
from ntalker_ns.audio.clock import frame_times, mirrored_replay
from ntalker_ns.audio.features import FeatureInfo, check_windows
from ntalker_ns.data.images import read_picture
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.rig import Rig
from ntalker_ns.media.frame_indices import longest_run
from ntalker_ns.media.output_paths import written_whole

FORMAT_VERSION = 3
ARRAYS_FILE = "sequence.npz"
DESCRIPTION_FILE = "sequence.json"
PLATE_FILE = "plate.png"


@runtime_checkable
class Pictures(Protocol):
    """Source of the pictures of the clip's frames, indexed by frame of the clip."""

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background without the person."""
        ...

    def headless_frame(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """Torso and background of a frame, without its head."""
        ...

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        """The frame itself, small."""
        ...


@dataclass(frozen=True)
class FolderPictures:
    """Pictures stored in a driving folder."""

    folder: Path
    """The folder of `plate.png`, `headless_frames/` and `thumbnails/`."""

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(self.folder / PLATE_FILE)

    def headless_frame(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(headless_frame_path(self.folder, frame))

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        return read_picture(thumbnail_path(self.folder, frame))


def headless_frame_path(folder: Path, frame: int) -> Path:
    """Path of a clip frame without its head in a driving folder."""
    return folder / "headless_frames" / f"{frame:05d}.jpg"


def thumbnail_path(folder: Path, frame: int) -> Path:
    """Path of a clip frame's thumbnail in a driving folder."""
    return folder / "thumbnails" / f"{frame:05d}.jpg"


@dataclass(frozen=True)
class ClipCamera:
    """The camera that filmed the clip: focal lengths, principal point and picture size in px, as the clip is stored."""

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.width, self.height

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """fl_x, fl_y, cx, cy in px."""
        return self.fl_x, self.fl_y, self.cx, self.cy

    def resized(self, size: tuple[int, int]) -> "ClipCamera":
        """The camera for pictures of another width and height in px."""
        x, y = size[0] / self.width, size[1] / self.height
        return ClipCamera(self.fl_x * x, self.fl_y * y, self.cx * x, self.cy * y, *size)


@dataclass(frozen=True, eq=False)
class Track:
    """The numbers of each frame; row i is frame i of the driving sequence.

    Frame i shows the clip's frame `replay[i]`: the same for the clip itself; with new audio the clip runs back and
    forth.
    """

    camera_to_worlds: Float[np.ndarray, "n 3 4"]
    """OpenGL camera-to-world matrices, float32."""
    times: Float[np.ndarray, " n"]
    """Position in the audio, 0 to 1."""
    eye_openness: Float[np.ndarray, " n"]
    """0 closed to 1 open."""
    mouth_opening: Float[np.ndarray, " n"]
    """Inner-lip gap over face height, NaN where unknown."""
    lip_shapes: Float[np.ndarray, "n lip_dim"]
    """Measured coefficients of `Rig.lip_basis`; in a replay those of the clip frame shown."""
    brow_shapes: Float[np.ndarray, "n brow_dim"]
    """Measured coefficients of `Rig.brow_basis`."""
    face_boxes: Float[np.ndarray, "n 4"]
    """x0, y0, x1, y1 in px of the stored clip."""
    lip_boxes: Float[np.ndarray, "n 4"]
    """x0, y0, x1, y1 in px of the stored clip."""
    is_train: Bool[np.ndarray, " n"]
    """Whether the clip frame shown belongs to the training split."""
    features: Float[np.ndarray, "n window channels"]
    """Audio feature windows."""
    replay: Int64[np.ndarray, " n"]
    """The clip frame that each frame replays."""

    def __len__(self) -> int:
        return len(self.times)

    def take(self, frames: Int64[np.ndarray, " m"]) -> "Track":
        """The track of these frames only, with their times."""
        return Track(*(getattr(self, each.name)[frames] for each in fields(self)))


@dataclass(frozen=True, eq=False)
class DrivingSequence:
    """What drives a head, frame by frame. Read-only: copies share its arrays."""

    rig: Rig
    """The person."""
    track: Track
    """The frames."""
    camera: ClipCamera
    """The clip's camera."""
    clip_is_train: Bool[np.ndarray, " clip"]
    """Which frames of the clip are trained on, also with new audio: its length is the clip's. Frames without a face are
    not, whatever their split: a replay shows them with an interpolated pose."""
    feature_info: FeatureInfo
    """The extractor of the features."""
    fps: float = 25.0
    """Frames per second."""
    source: str = ""
    """Absolute path of the data set this was read from."""
    pictures: Pictures | None = field(default=None, repr=False)
    """Source of plate, headless frames and thumbnails."""
    closed: Float[np.ndarray, "n 2"] | None = None
    """How likely lips meet, and lip and teeth, in each frame, where the spoken phonemes are known; None: they are not,
    and it is read from the features. Not saved."""

    def __len__(self) -> int:
        return len(self.track)

    def __deepcopy__(self, memo: dict[int, Any]) -> "DrivingSequence":
        """Itself: nerfstudio deep-copies metadata for every data set, and feature tracks can be large."""
        return self

    @property
    def folder(self) -> Path | None:
        """The driving folder, where there is one."""
        return self.pictures.folder if isinstance(self.pictures, FolderPictures) else None

    @property
    def num_clip_frames(self) -> int:
        """Number of frames of the clip, whatever drives it."""
        return len(self.clip_is_train)

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background without the person, RGB."""
        return self._pictures().plate()

    def headless_frame(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """Torso and background under the head at a frame of the sequence (not of the clip), RGB."""
        return self._pictures().headless_frame(int(self.track.replay[frame]))

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        """The clip frame shown at a frame of the sequence, small, RGB."""
        return self._pictures().thumbnail(int(self.track.replay[frame]))

    def _pictures(self) -> Pictures:
        if self.pictures is None:
            raise NTalkerError("This driving sequence has no pictures: it was made without a folder or a data set.")
        return self.pictures

    def with_track(self, **arrays: np.ndarray) -> "DrivingSequence":
        """The sequence with some arrays of its track replaced, by name."""
        return replace(self, track=replace(self.track, **arrays))

    def with_features(
        self, features: Float[np.ndarray, "m window channels"], closed: Float[np.ndarray, "m 2"] | None = None
    ) -> "DrivingSequence":
        """The same head on new audio: poses, blinks, boxes and pictures replay the clip back and forth.

        The clip's longest run of training frames is replayed, so that every pose was trained on and the replay never
        jumps over held-out frames.

        Args:
            features: windows of the new audio by the extractor of `feature_info`, one per frame.
            closed: how likely lips meet, and lip and teeth, in each frame, where the phonemes are known.

        Returns:
            A sequence of `len(features)` frames with times from 0 to 1.

        Raises:
            NTalkerError: the features are empty or not of the kind this head was trained on, or this is a replay.
        """
        check_windows(features, self.feature_info)
        start, length = longest_run(self.clip().track.is_train)
        track = self.track.take(start + mirrored_replay(len(features), length))
        features = np.ascontiguousarray(features, dtype=np.float32)
        track = replace(track, features=features, times=frame_times(len(features)))
        return replace(self, track=track, closed=closed)

    def clip(self) -> "DrivingSequence":
        """The clip itself.

        Raises:
            NTalkerError: this sequence already replays it: load the driving folder instead.
        """
        if not np.array_equal(self.track.replay, np.arange(self.num_clip_frames)):
            raise NTalkerError("Features can only be replaced in the clip's own driving sequence, not in a replay.")
        return self

    def take(self, frames: Int64[np.ndarray, " m"]) -> "DrivingSequence":
        """The sequence that shows these frames of this one, with their times."""
        closed = None if self.closed is None else self.closed[frames]
        return replace(self, track=self.track.take(frames), closed=closed)

    def save(self, folder: Path) -> None:
        """Writes `sequence.npz` and `sequence.json` (not the pictures) into a folder, each atomically.

        Args:
            folder: created if it does not exist.
        """
        arrays = {"clip_is_train": self.clip_is_train, **_arrays("track", self.track), **_arrays("rig", self.rig)}
        description = {
            "format_version": FORMAT_VERSION,
            "written_by": f"ntalker_ns {__version__}",
            "keypoints": {name: [float(x) for x in point] for name, point in self.rig.keypoints.items()},
            "camera": asdict(self.camera),
            "feature_info": self.feature_info.to_dict(),
            "fps": self.fps,
            "source": self.source,
        }
        with written_whole(folder / ARRAYS_FILE) as partial:
            np.savez(partial, **arrays)
        with written_whole(folder / DESCRIPTION_FILE) as partial:
            partial.write_text(json.dumps(description, indent=2), "utf8")

    @classmethod
    def load(cls, folder: Path) -> "DrivingSequence":
        """Reads what `save` wrote; the pictures come from the same folder.

        Raises:
            NTalkerError: files are missing, unreadable or of another format version.
        """
        description = _read_description(folder / DESCRIPTION_FILE)
        keypoints = {name: np.array(point, np.float32) for name, point in description["keypoints"].items()}
        try:
            with np.load(folder / ARRAYS_FILE) as file:
                arrays = dict(file)
            clip_is_train = arrays["clip_is_train"]
            track = Track(**_named(arrays, "track"))
            rig = Rig(keypoints=keypoints, **_named(arrays, "rig"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise NTalkerError(f"{folder / ARRAYS_FILE} cannot be read ({error}): train the run again.") from error
        return cls(
            rig=rig,
            track=track,
            camera=ClipCamera(**description["camera"]),
            clip_is_train=clip_is_train,
            feature_info=FeatureInfo.from_dict(description["feature_info"]),
            fps=description["fps"],
            source=description["source"],
            pictures=FolderPictures(folder),
        )


def _arrays(part: str, values: Track | Rig) -> dict[str, np.ndarray]:
    """The array fields of a part, by `part.name`."""
    named = {f"{part}.{each.name}": getattr(values, each.name) for each in fields(values)}
    return {name: array for name, array in named.items() if isinstance(array, np.ndarray)}


def _named(arrays: dict[str, np.ndarray], part: str) -> dict[str, Any]:
    """The inverse of `_arrays`."""
    return {name.removeprefix(f"{part}."): array for name, array in arrays.items() if name.startswith(f"{part}.")}


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text("utf8"))
        found = description["format_version"]
    except (OSError, ValueError, KeyError) as error:
        raise NTalkerError(f"{path} cannot be read ({error}): this run has no driving sequence.") from error
    if found != FORMAT_VERSION:
        raise NTalkerError(
            f"{path} was written by {description.get('written_by', 'an earlier ntalker_ns')} in format {found}, but "
            f"ntalker_ns {__version__} reads format {FORMAT_VERSION}: train the run again, or use the version that "
            "wrote it."
        )
    return description


def write_folder(folder: Path, sequence: DrivingSequence, write_pictures: Callable[[Path], None]) -> DrivingSequence:
    """Writes a whole driving folder atomically, replacing one of the same name.

    Args:
        folder: where it is to be.
        sequence: what to save in it.
        write_pictures: called with a temporary folder beside `folder`, to put the pictures there.

    Returns:
        The sequence, with its pictures in `folder`.
    """
    with written_whole(folder) as temporary:
        temporary.mkdir()
        write_pictures(temporary)
        sequence.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)
    return replace(sequence, pictures=FolderPictures(folder))
