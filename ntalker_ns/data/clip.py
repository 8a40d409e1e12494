"""A processed clip on disk: frames, labels, poses and features, checked while they are read."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.audio.features import FeatureInfo, read_features
from ntalker_ns.data.images import read_picture
from ntalker_ns.errors import NTalkerError, in_words

TRANSFORMS_FILE = "transforms.json"
FORMAT_VERSION = 1
OPTIONAL = ("is_train", "landmark_poses")
"""Fields of a clip that have an entry a frame, or are None."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A processed clip. Pictures are read when asked for; boxes and landmarks are px in the stored pictures."""

    folder: Path
    image_paths: list[Path]
    label_paths: list[Path]
    plate_path: Path
    camera_to_worlds: Float[np.ndarray, "n 3 4"]
    """OpenGL, in the canonical head space, float32."""
    intrinsics: tuple[float, float, float, float]
    """fl_x, fl_y, cx, cy in px."""
    size: tuple[int, int]
    """Width and height in px."""
    fps: float
    eye_openness: Float[np.ndarray, " n"]
    mouth_opening: Float[np.ndarray, " n"]
    """NaN where unknown."""
    face_boxes: Float[np.ndarray, "n 4"]
    lip_boxes: Float[np.ndarray, "n 4"]
    landmarks: Float[np.ndarray, "n points 2"]
    """NaN where a frame has none."""
    tracked: Bool[np.ndarray, " n"]
    """Frames whose pose was seen; the others' poses are bridged, and nothing is learned or judged by their pictures."""
    default_features: str
    """The features that are used where none are asked for."""
    face_shape: Float[np.ndarray, "478 3"] | None = None
    """Where the landmarks of a neutral face are in the world; None where the data set does not say."""
    is_train: Bool[np.ndarray, " n"] | None = None
    """The data set's own split, where it has one."""
    landmark_poses: Float[np.ndarray, "n 3 4"] | None = None
    """As `camera_to_worlds`, but by landmarks alone, without the alignment of the face's texture; None where the data
    set has none."""

    per_frame: ClassVar[tuple[str, ...]] = (
        *("image_paths", "label_paths", "camera_to_worlds", "eye_openness", "mouth_opening"),
        *("face_boxes", "lip_boxes", "landmarks", "tracked"),
    )
    """Fields that have an entry a frame."""

    def __len__(self) -> int:
        return len(self.image_paths)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Clip":
        """Itself: it is read-only, and nerfstudio copies metadata deeply for every data set."""
        return self

    def image(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """The frame, RGB.

        Raises:
            NTalkerError: it is missing, broken or of another size than the data set says.
        """
        return self._checked(read_picture(self.image_paths[frame]), self.image_paths[frame], frame)

    def labels(self, frame: int) -> UInt8[np.ndarray, "h w"]:
        """The frame's labels (`head_removal.BACKGROUND` to `head_removal.MOUTH_INTERIOR`).

        Raises:
            NTalkerError: they are missing, broken or of another size than the frame.
        """
        path = self.label_paths[frame]
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise NTalkerError(f"{path} (labels of frame {frame}) is missing or cannot be decoded.")
        if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > 4:
            raise NTalkerError(f"{path} (frame {frame}) is not a single-channel picture of labels 0 to 4.")
        return self._checked(labels, path, frame)

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background without the person, RGB.

        Raises:
            NTalkerError: it is missing, broken or of another size than the frames.
        """
        plate = read_picture(self.plate_path)
        if plate.shape[1::-1] != self.size:
            raise NTalkerError(f"{self.plate_path} has size {plate.shape[1::-1]}, the frames have {self.size}.")
        return plate

    def torso(self, frame: int) -> UInt8[np.ndarray, "h w 4"] | None:
        """The torso alone, RGBA, with what the data set painted in behind the head; None where it has no such pictures.

        Raises:
            NTalkerError: it is missing, broken or of another size than the frame.
        """
        return None

    def features(self, name: str | None) -> tuple[Float[np.ndarray, "n window channels"], FeatureInfo]:
        """Audio feature windows of every frame, and their extractor.

        Args:
            name: which, by the name of their file; None takes the data set's own.
        """
        track, info = read_features(self.folder / "audio_features", name or self.default_features)
        if len(track) < len(self):
            raise NTalkerError(
                f"{self.folder / 'audio_features'} covers {len(track)} frames, the clip has {len(self)}: "
                "process the clip again."
            )
        return track[: len(self)], info

    def first(self, num_frames: int) -> "Clip":
        """The same clip, no longer than this."""
        cut = {name: getattr(self, name)[:num_frames] for name in self.per_frame}
        optional = {name: None if (values := getattr(self, name)) is None else values[:num_frames] for name in OPTIONAL}
        return replace(self, **cut, **optional)

    def _checked(self, picture: np.ndarray, path: Path, frame: int) -> np.ndarray:
        if picture.shape[1::-1] != self.size:
            raise NTalkerError(
                f"{path} (frame {frame}) has size {picture.shape[1]}x{picture.shape[0]}, but the data set says "
                f"{self.size[0]}x{self.size[1]}: process the clip again."
            )
        return picture


def read_own_clip(folder: Path) -> Clip:
    """Reads a data set written by `ntalker process`.

    Raises:
        NTalkerError: transforms.json is not of our format, or a field is missing.
    """
    path = folder / TRANSFORMS_FILE
    meta = read_json(path)
    if meta.get("format") != "ntalker" or meta.get("format_version") != FORMAT_VERSION:
        raise NTalkerError(
            f"{path} is not of format ntalker, version {FORMAT_VERSION}: make the data set with `ntalker process`."
        )
    try:
        frames = meta["frames"]
        if not frames:
            raise NTalkerError(f"{path} names no frames: process the clip again.")
        image_paths = [folder / frame["file_path"] for frame in frames]
        return Clip(
            folder=folder,
            image_paths=image_paths,
            label_paths=[folder / "masks" / f"{path.stem}.png" for path in image_paths],
            plate_path=folder / "background.png",
            camera_to_worlds=_stack(frames, "transform_matrix")[:, :3],
            intrinsics=(float(meta["fl_x"]), float(meta["fl_y"]), float(meta["cx"]), float(meta["cy"])),
            size=(int(meta["w"]), int(meta["h"])),
            fps=float(meta["fps"]),
            eye_openness=_stack(frames, "eye_openness"),
            mouth_opening=_stack(frames, "mouth_opening", default=np.nan),
            face_boxes=_stack(frames, "face_box"),
            lip_boxes=_stack(frames, "lip_box"),
            landmarks=_read_landmarks(folder / "landmarks.npy", len(frames)),
            tracked=np.array([frame.get("tracked", True) for frame in frames], bool),
            default_features=meta["feature_extractor"],
            face_shape=_read_optional(folder / "face_shape.npy", (478, 3)),
            landmark_poses=_read_optional(folder / "landmark_poses.npy", (len(frames), 3, 4)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        reason = in_words(error)
        raise NTalkerError(f"{path} has a field missing or malformed ({reason}): process the clip again.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        NTalkerError: there is no file, or no JSON object in it.
    """
    try:
        value = json.loads(path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise NTalkerError(f"{path} cannot be read ({error}).") from error
    if not isinstance(value, dict):
        raise NTalkerError(f"{path} holds no JSON object.")
    return value


def check_clip(clip: Clip) -> None:
    """Checks what can be checked without decoding a picture.

    Raises:
        NTalkerError: missing files, or numbers that are not finite, naming the first frame.
    """
    for paths, what in ((clip.image_paths, "images"), (clip.label_paths, "masks")):
        missing = [(i, path) for i, path in enumerate(paths) if not path.is_file()]
        if missing:
            frame, path = missing[0]
            raise NTalkerError(
                f"{len(missing)} of the {len(paths)} {what} that {clip.folder} names are missing, "
                f"first {path} (frame {frame}): process the clip again."
            )
    for name in ("camera_to_worlds", "eye_openness", "face_boxes", "lip_boxes"):
        values = getattr(clip, name).reshape(len(clip), -1)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise NTalkerError(
                f"{clip.folder} has NaN or infinity in {name} of frame {bad[0]}: process the clip again."
            )


def _stack(frames: list[dict[str, Any]], key: str, default: float | None = None) -> np.ndarray:
    values = [frame[key] if default is None else frame.get(key, default) for frame in frames]
    return np.array([default if value is None else value for value in values], dtype=np.float32)


def _read_landmarks(path: Path, num_frames: int) -> Float[np.ndarray, "n points 2"]:
    try:
        landmarks = np.load(path)
    except (OSError, ValueError) as error:
        raise NTalkerError(f"{path} cannot be read ({error}): process the clip again.") from error
    if landmarks.ndim != 3 or landmarks.shape[0] != num_frames or landmarks.shape[2] != 2:
        raise NTalkerError(
            f"{path} has shape {landmarks.shape}, not ({num_frames}, points, 2): process the clip again."
        )
    return landmarks.astype(np.float32)


def _read_optional(path: Path, shape: tuple[int, ...]) -> Float[np.ndarray, "..."] | None:
    """Numbers of a file that older data sets and those of other formats lack."""
    if not path.exists():
        return None
    try:
        values = np.load(path)
    except (OSError, ValueError) as error:
        raise NTalkerError(f"{path} cannot be read ({error}): process the clip again.") from error
    if values.shape != shape or not np.isfinite(values).all():
        raise NTalkerError(f"{path} does not hold {shape} finite numbers: process the clip again.")
    return values.astype(np.float32)
