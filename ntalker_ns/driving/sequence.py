"""The driving sequence: everything that moves a head, apart from the head itself.

It is written into the run folder when training starts, so that a run can be rendered, viewed and driven by new audio
where the data set is not.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from ntalker_ns.data.images import read_picture
from ntalker_ns.errors import NTalkerError

FORMAT_VERSION = 2
ARRAYS_FILE = "sequence.npz"
SCALARS_FILE = "sequence.json"
PLATE_FILE = "plate.png"
ANCHOR_NAMES = ("mouth", "chin", "left_eye", "right_eye", "nose")


@runtime_checkable
class Pictures(Protocol):
    """Where the pictures of the clip's frames come from; indices are frames of the clip."""

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background without the person."""
        ...

    def underlay(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """Torso and background of a frame, without its head."""
        ...

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        """The frame itself, small."""
        ...


@dataclass(frozen=True)
class FolderPictures:
    """Pictures as they lie in a driving folder."""

    folder: Path
    """The folder of `plate.png`, `underlays/` and `thumbnails/`."""

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(self.folder / PLATE_FILE)

    def underlay(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(underlay_path(self.folder, frame))

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        return read_picture(thumbnail_path(self.folder, frame))


def underlay_path(folder: Path, frame: int) -> Path:
    """Where the underlay of a clip frame lies in a driving folder."""
    return folder / "underlays" / f"{frame:05d}.jpg"


def thumbnail_path(folder: Path, frame: int) -> Path:
    """Where the thumbnail of a clip frame lies in a driving folder."""
    return folder / "thumbnails" / f"{frame:05d}.jpg"


@dataclass(frozen=True, eq=False)
class DrivingSequence:
    """What drives a head, frame by frame. Read-only: copies of it share its arrays.

    Lengths in px are those of the clip as it is stored, whatever size is trained at. Frame i of the sequence shows
    the clip's frame `replay[i]`; for the clip itself they are the same, with new audio the clip runs back and forth.
    """

    camera_to_worlds: Float[np.ndarray, "n 3 4"]
    """OpenGL camera-to-world matrices, float32."""
    times: Float[np.ndarray, " n"]
    """Place in the audio, 0 to 1."""
    eye_openness: Float[np.ndarray, " n"]
    """0 closed to 1 open."""
    mouth_opening: Float[np.ndarray, " n"]
    """Inner-lip gap over face height, NaN where unknown."""
    lip_shapes: Float[np.ndarray, "n 6"]
    """What lips and jaw do, measured (`ntalker_ns.face.shape_basis`); in a replay, that of the frame shown."""
    lip_places: Float[np.ndarray, "points 2"]
    """Where lips and jaw are in the head, see `LandmarkSpace`."""
    lip_motions: Float[np.ndarray, "6 points 2"]
    """How lip shapes move them, see `LandmarkSpace`."""
    brow_shapes: Float[np.ndarray, "n 3"]
    """What the brows do, likewise."""
    brow_places: Float[np.ndarray, "brow_points 2"]
    """Where brows and what rests around them are in the head, see `LandmarkSpace`."""
    brow_motions: Float[np.ndarray, "3 brow_points 2"]
    """How brow shapes move them, see `LandmarkSpace`."""
    lids: Float[np.ndarray, "2 columns 4"]
    """Where the lids are, see `ntalker_ns.face.eyelids.lid_curves`."""
    face_boxes: Float[np.ndarray, "n 4"]
    """x0, y0, x1, y1 in px."""
    lip_boxes: Float[np.ndarray, "n 4"]
    """x0, y0, x1, y1 in px."""
    is_train: Bool[np.ndarray, " n"]
    """Whether the clip frame shown is of the training split."""
    features: Float[np.ndarray, "n window channels"]
    """Audio feature windows."""
    replay: Int64[np.ndarray, " n"]
    """The clip frame that each frame replays."""
    clip_is_train: Bool[np.ndarray, " clip"]
    """Which frames of the clip are trained on, also with new audio: its length is the clip's. A frame without a face is
    not, whatever its split: a replay shows it with its bridged pose, and nothing is learned from its picture."""
    feature_info: dict[str, Any]
    """The extractor of the features (`FeatureInfo.to_dict`)."""
    anchors: dict[str, Float[np.ndarray, "3"]]
    """World points of `ANCHOR_NAMES`."""
    fl_x: float
    """Focal length in px."""
    fl_y: float
    """Focal length in px."""
    cx: float
    """Principal point in px."""
    cy: float
    """Principal point in px."""
    width: int
    """Width of the clip's pictures in px."""
    height: int
    """Height of the clip's pictures in px."""
    fps: float = 25.0
    """Frames per second."""
    source: str = ""
    """The data set this was read from, as an absolute path."""
    pictures: Pictures | None = field(default=None, repr=False)
    """Where plate, underlays and thumbnails come from."""

    def __len__(self) -> int:
        return len(self.times)

    def __deepcopy__(self, memo: dict[int, Any]) -> "DrivingSequence":
        """Itself: nerfstudio copies metadata deeply for every data set, and feature tracks can be large."""
        return self

    @property
    def folder(self) -> Path | None:
        """The driving folder, where there is one."""
        return self.pictures.folder if isinstance(self.pictures, FolderPictures) else None

    @property
    def num_clip_frames(self) -> int:
        """How many frames the clip has, whatever drives it."""
        return len(self.clip_is_train)

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background without the person, RGB."""
        return self._pictures().plate()

    def underlay(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """Torso and background under the head at a frame of the sequence (not of the clip), RGB."""
        return self._pictures().underlay(int(self.replay[frame]))

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        """The clip frame shown at a frame of the sequence, small, RGB."""
        return self._pictures().thumbnail(int(self.replay[frame]))

    def _pictures(self) -> Pictures:
        if self.pictures is None:
            raise NTalkerError("This driving sequence has no pictures: it was made without a folder or a data set.")
        return self.pictures

    def with_features(self, track: Float[np.ndarray, "m window channels"], info: dict[str, Any]) -> "DrivingSequence":
        """The same head on new audio: poses, blinks, boxes and pictures replay the clip back and forth.

        What is replayed is the clip's longest run of training frames, so that no pose is asked for that training
        never saw, and no jump is made over what was held out.

        Args:
            track: feature windows of the new audio, float32; their number becomes the sequence's length.
            info: their extractor, as in `feature_info`.

        Returns:
            A sequence of `len(track)` frames with times from 0 to 1.

        Raises:
            NTalkerError: the features are empty or not of the kind this head was trained on.
        """
        from ntalker_ns.audio.clock import mirrored_replay

        check_features(track, self.feature_info, info)
        clip = self.clip()
        start, length = longest_run(clip.is_train)
        frames = start + mirrored_replay(len(track), length)
        return replace(
            clip.take(frames),
            features=np.ascontiguousarray(track, dtype=np.float32),
            times=frame_times(len(track)),
        )

    def clip(self) -> "DrivingSequence":
        """The clip itself.

        Raises:
            NTalkerError: this sequence already replays it: load the driving folder instead.
        """
        if not np.array_equal(self.replay, np.arange(self.num_clip_frames)):
            raise NTalkerError("Features can only be replaced in the clip's own driving sequence, not in a replay.")
        return self

    def take(self, frames: Int64[np.ndarray, " m"]) -> "DrivingSequence":
        """The sequence that shows these frames of this one; times are taken along."""
        per_frame = {name: getattr(self, name)[frames] for name in PER_FRAME_ARRAYS}
        return replace(self, **per_frame)

    def save(self, folder: Path) -> None:
        """Writes `sequence.npz` and `sequence.json` (not the pictures) into a folder, each atomically.

        Args:
            folder: made if it is not there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in (*PER_FRAME_ARRAYS, *CLIP_ARRAYS)}
        temporary = folder / f".{ARRAYS_FILE}.tmp"
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, folder / ARRAYS_FILE)
        scalars = {name: getattr(self, name) for name in SCALARS}
        scalars["anchors"] = {name: [float(x) for x in point] for name, point in self.anchors.items()}
        scalars["format_version"] = FORMAT_VERSION
        temporary = folder / f".{SCALARS_FILE}.tmp"
        temporary.write_text(json.dumps(scalars, indent=2), "utf8")
        os.replace(temporary, folder / SCALARS_FILE)

    @classmethod
    def load(cls, folder: Path) -> "DrivingSequence":
        """Reads what `save` wrote; the pictures come from the same folder.

        Raises:
            NTalkerError: files are missing, unreadable or of another version.
        """
        scalars = _read_scalars(folder / SCALARS_FILE)
        try:
            with np.load(folder / ARRAYS_FILE) as file:
                arrays = {name: file[name] for name in (*PER_FRAME_ARRAYS, *CLIP_ARRAYS)}
        except (OSError, KeyError, ValueError) as error:
            raise NTalkerError(f"{folder / ARRAYS_FILE} cannot be read ({error}): train the run again.") from error
        anchors = {name: np.array(point, np.float32) for name, point in scalars.pop("anchors").items()}
        return cls(**arrays, **scalars, anchors=anchors, pictures=FolderPictures(folder))


PER_FRAME_ARRAYS = (
    "camera_to_worlds",
    "times",
    "eye_openness",
    "mouth_opening",
    "lip_shapes",
    "brow_shapes",
    "face_boxes",
    "lip_boxes",
    "is_train",
    "features",
    "replay",
)
CLIP_ARRAYS = ("clip_is_train", "lip_places", "lip_motions", "brow_places", "brow_motions", "lids")
SCALARS = ("feature_info", "fl_x", "fl_y", "cx", "cy", "width", "height", "fps", "source")
assert {f.name for f in fields(DrivingSequence)} == {
    *PER_FRAME_ARRAYS,
    *SCALARS,
    *CLIP_ARRAYS,
    "anchors",
    "pictures",
}


def _read_scalars(path: Path) -> dict[str, Any]:
    try:
        scalars = json.loads(path.read_text("utf8"))
        version = scalars.pop("format_version")
    except (OSError, ValueError, KeyError) as error:
        raise NTalkerError(f"{path} cannot be read ({error}): this run has no driving sequence.") from error
    if version != FORMAT_VERSION:
        raise NTalkerError(f"{path} has format version {version}, this program reads {FORMAT_VERSION}.")
    return scalars


def frame_times(num_frames: int) -> Float[np.ndarray, " n"]:
    """The place of every frame in the audio, 0 to 1: i / (n - 1), float32."""
    return (np.arange(num_frames) / max(num_frames - 1, 1)).astype(np.float32)


def longest_run(chosen: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    """Start and length of the longest run of True (the first of equals); all of it where nothing is chosen."""
    if not chosen.any():
        return 0, len(chosen)
    edges = np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best])


def check_features(track: np.ndarray, expected: dict[str, Any], given: dict[str, Any]) -> None:
    """Checks that features are of the kind a head was trained on.

    Raises:
        NTalkerError: another extractor or width, no frames, or values that are not finite.
    """
    for key in ("extractor", "model", "window", "channels"):
        if key in expected and key in given and expected[key] != given[key]:
            raise NTalkerError(
                f"The audio features have {key} {given[key]}, but this head was trained with {key} {expected[key]}: "
                "extract them with the run's own extractor."
            )
    if track.ndim != 3 or len(track) == 0:
        raise NTalkerError(f"Audio features must have shape (frames, window, channels), not {track.shape}.")
    shape = (expected.get("window", track.shape[1]), expected.get("channels", track.shape[2]))
    if track.shape[1:] != shape:
        raise NTalkerError(
            f"The audio features have shape {track.shape[1:]} a frame, but this head was trained with {shape}."
        )
    if not np.isfinite(track).all():
        frame = int(np.flatnonzero(~np.isfinite(track).all(axis=(1, 2)))[0])
        raise NTalkerError(f"The audio features hold NaN or infinity, first in frame {frame}: extract them again.")


def write_folder(folder: Path, sequence: DrivingSequence, write_pictures: Callable[[Path], None]) -> DrivingSequence:
    """Writes a whole driving folder atomically, replacing one of the same name.

    Args:
        folder: where it is to be.
        sequence: what to save in it.
        write_pictures: called with a temporary folder beside `folder`, to put the pictures there.

    Returns:
        The sequence, with its pictures in `folder`.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_pictures(temporary)
        sequence.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(sequence, pictures=FolderPictures(folder))
