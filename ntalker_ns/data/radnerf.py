"""Reads data sets of AD-NeRF, RAD-NeRF and ER-NeRF without converting them.

Their cameras are OpenGL camera-to-world matrices in a world with the head at the origin, y up and the face towards +z;
in its units the head is a quarter of the size it has in our box.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8

from ntalker_ns.audio.features import DEFAULT_MODELS, FeatureInfo
from ntalker_ns.audio.windows import FEATURE_RATE, FPS, WINDOW, windows_of_track
from ntalker_ns.data.clip import Clip, read_json
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.data.images import polygon_mask, read_picture
from ntalker_ns.errors import NTalkerError, in_words
from ntalker_ns.face.eyelids import openness_of_gaps
from ntalker_ns.face.mesh_indices import (
    IBUG,
    IBUG_CHIN,
    IBUG_INNER_LIPS,
    IBUG_LID_PAIRS,
    IBUG_LIP_PAIRS,
    IBUG_NOSE_ROOT,
    IBUG_OUTER_LIPS,
)

POSITION_SCALE = 4.0
"""Our units per unit of theirs."""
AXES = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64)
"""From their world (y up, face to +z) to ours (z up, face to -y)."""

IMAGE_FOLDERS = ("gt_imgs", "com_imgs")
"""RAD-NeRF's and ER-NeRF's frames; AD-NeRF's."""

FEATURE_FILES = {
    "aud_eo": "wav2vec2",
    "aud": "aud",
    "aud_ds": "aud_ds",
    "aud_hu": "hubert",
}
"""Feature files, in the order in which they are looked for, and the names of their features. Files that one of our
extractors computes have its name; for `aud` and `aud_ds` (DeepSpeech or others) new audio needs a feature file."""

BLUE, GREEN, RED = 0, 1, 2
"""Channels of a picture in OpenCV's order."""
MISSING_ROWS = 5
"""Frames at the end of a clip that may lack features: sound often ends a little earlier than the picture."""
BLINK_SCALE = 2.0
"""AU45 intensity (0 to 5) at which the eye counts as closed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RadNerfClip(Clip):
    """A clip in the format of AD-NeRF, RAD-NeRF and ER-NeRF."""

    feature_rows: Int64[np.ndarray, " n"]
    """The row of the feature files that belongs to each frame (`aud_id`)."""
    head_channel: int
    """Channel of the head in the parsing pictures, `BLUE` or `RED`; the other one is the torso's."""

    per_frame: ClassVar[tuple[str, ...]] = (*Clip.per_frame, "feature_rows")

    def labels(self, frame: int) -> UInt8[np.ndarray, "h w"]:
        path = self.label_paths[frame]
        colours = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if colours is None:
            raise NTalkerError(f"{path} (labels of frame {frame}) is missing or cannot be decoded.")
        self._checked(colours, path, frame)
        bright = colours > 127
        labels = np.full(colours.shape[:2], BACKGROUND, np.uint8)
        coloured = ~bright.all(axis=2)
        torso_channel = RED + BLUE - self.head_channel
        labels[coloured & (bright[..., GREEN] | bright[..., torso_channel])] = TORSO
        labels[coloured & bright[..., self.head_channel] & ~bright[..., GREEN]] = HEAD
        points = self.landmarks[frame]
        if np.isfinite(points).all():
            for part, label in ((IBUG_OUTER_LIPS, LIPS), (IBUG_INNER_LIPS, MOUTH_INTERIOR)):
                labels[polygon_mask(points[part], self.size) & (labels >= HEAD)] = label
        return labels

    def torso(self, frame: int) -> UInt8[np.ndarray, "h w 4"] | None:
        folder = self.folder / "torso_imgs"
        if not folder.is_dir():
            return None
        path = folder / f"{self.image_paths[frame].stem}.png"
        torso = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if torso is None:
            raise NTalkerError(f"{path} (torso of frame {frame}) is missing or cannot be decoded.")
        if torso.ndim != 3 or torso.shape[2] != 4:
            raise NTalkerError(f"{path} (frame {frame}) has no alpha channel, as RAD-NeRF's torso pictures have.")
        return self._checked(cv2.cvtColor(torso, cv2.COLOR_BGRA2RGBA), path, frame)

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        return np.asarray(cv2.resize(read_picture(self.plate_path), self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def features(self, name: str | None) -> tuple[Float[np.ndarray, "n window channels"], FeatureInfo]:
        name = name or self.default_features
        path = self.folder / f"{name}.npy"
        rows = read_feature_rows(path)
        check_rows(path, len(rows), self.feature_rows)
        windows = np.asarray(rows[np.minimum(self.feature_rows, len(rows) - 1)], np.float32)
        return windows, _feature_info(name, windows)


def check_rows(path: Path, rows: int, of_frames: Int64[np.ndarray, " n"]) -> None:
    """Makes sure that a file has rows for the frames, but for a few at the end: the last one is then repeated.

    Args:
        path: of the file, for the message.
        rows: that it has.
        of_frames: the row that belongs to each frame.

    Raises:
        NTalkerError: more are missing, as where the file is of another frame rate or clip.
    """
    missing = int((of_frames >= rows).sum())
    if missing > MISSING_ROWS:
        raise NTalkerError(
            f"{path} has {rows} rows, and {missing} of the {len(of_frames)} frames have none (the last needs row "
            f"{int(of_frames.max())}): extract it again from this clip, at {FPS} frames a second."
        )


def _feature_info(name: str, windows: np.ndarray) -> FeatureInfo:
    extractor = FEATURE_FILES.get(name, name)
    return FeatureInfo(extractor, DEFAULT_MODELS.get(extractor), windows.shape[2], windows.shape[1])


def read_feature_rows(path: Path) -> Float[np.ndarray, "rows window channels"]:
    """The feature windows of a file, mapped rather than read.

    ER-NeRF's HuBERT files hold only the two feature steps of each frame; windows of 16 steps are made of them here.

    Raises:
        NTalkerError: there is no such file, or it holds no features.
    """
    try:
        rows = np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise NTalkerError(f"There are no audio features at {path}.") from error
    except (OSError, ValueError) as error:
        raise NTalkerError(f"{path} is not a NumPy array file ({error}).") from error
    if rows.ndim != 3 or len(rows) == 0 or not np.issubdtype(rows.dtype, np.floating):
        raise NTalkerError(f"{path} has shape {rows.shape} and type {rows.dtype}, not (frames, {WINDOW}, C) of floats.")
    if rows.shape[1] == FEATURE_RATE // FPS:
        return windows_of_track(np.asarray(rows, np.float32).reshape(-1, rows.shape[2]), len(rows))
    if rows.shape[1] != WINDOW:
        raise NTalkerError(f"{path} holds windows of {rows.shape[1]} steps; they must have {WINDOW}.")
    return rows


def read_radnerf_clip(folder: Path) -> RadNerfClip:
    """Reads a data set of this format; frames are sorted by their numbers.

    Raises:
        NTalkerError: files or fields are missing or malformed.
    """
    meta, frames, is_train = _read_transforms(folder)
    try:
        ids = [int(frame["img_id"]) for frame in frames]
        feature_rows = np.array([int(frame["aud_id"]) for frame in frames], np.int64)
        matrices = np.array([frame["transform_matrix"] for frame in frames], np.float64)
        focal, cx, cy = (float(meta[key]) for key in ("focal_len", "cx", "cy"))
        camera_to_worlds = to_our_world(matrices)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        reason = in_words(error)
        raise NTalkerError(f"The transforms in {folder} have a field missing or malformed ({reason}).") from error
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder / IMAGE_FOLDERS[0])
    image_paths = [images / f"{number}.jpg" for number in ids]
    label_paths = [folder / "parsing" / f"{number}.png" for number in ids]
    landmarks = np.stack([_read_landmarks(folder / "ori_imgs" / f"{number}.lms") for number in ids])
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    if not seen.any():
        raise NTalkerError(f"{folder / 'ori_imgs'} has landmarks (.lms) of none of the {len(ids)} frames.")
    filled = landmarks[_nearest_true(seen)]
    return RadNerfClip(
        folder=folder,
        image_paths=image_paths,
        label_paths=label_paths,
        plate_path=folder / "bc.jpg",
        camera_to_worlds=camera_to_worlds,
        intrinsics=(focal, focal, cx, cy),
        size=_picture_size(meta, image_paths[0]),
        fps=25.0,
        eye_openness=_eye_openness(folder / "au.csv", ids, filled),
        mouth_opening=np.where(seen, _mouth_opening(landmarks), np.nan).astype(np.float32),
        face_boxes=box_around(filled, 0.1),
        lip_boxes=box_around(filled[:, IBUG_OUTER_LIPS], 0.25),
        landmarks=landmarks,
        tracked=np.ones(len(frames), bool),
        default_features=_default_features(folder),
        is_train=is_train,
        feature_rows=feature_rows,
        head_channel=_head_channel(label_paths, landmarks),
    )


def to_our_world(matrices: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 3 4"]:
    """Their camera-to-world matrices in our world and scale, float32."""
    scaled = matrices[:, :3].copy()
    scaled[:, :, 3] *= POSITION_SCALE
    return (AXES @ scaled).astype(np.float32)


def _read_transforms(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray]:
    """The fields other than the frames, the frames in order, and whether each is a training frame."""
    meta = read_json(folder / "transforms_train.json")
    splits = [(frame, True) for frame in meta.get("frames", [])]
    held_out = folder / "transforms_val.json"
    if held_out.is_file():
        splits += [(frame, False) for frame in read_json(held_out).get("frames", [])]
    if not splits or any("img_id" not in frame for frame, _ in splits):
        raise NTalkerError(f"{folder / 'transforms_train.json'} names no frames by img_id.")
    splits.sort(key=lambda item: item[0]["img_id"])
    return meta, [frame for frame, _ in splits], np.array([is_train for _, is_train in splits])


def _picture_size(meta: dict[str, Any], first: Path) -> tuple[int, int]:
    if "w" in meta and "h" in meta:
        return int(meta["w"]), int(meta["h"])
    return read_picture(first).shape[1], read_picture(first).shape[0]


def _read_landmarks(path: Path) -> Float[np.ndarray, "68 2"]:
    """The 68 landmarks in px; NaN where the file is missing."""
    if not path.is_file():
        return np.full((68, 2), np.nan, np.float32)
    values = path.read_text().split()
    try:
        return np.array(values, np.float32).reshape(68, 2)
    except ValueError as error:
        raise NTalkerError(f"{path} does not hold 68 landmarks: it has {len(values)} values.") from error


def _nearest_true(mask: np.ndarray) -> Int64[np.ndarray, " n"]:
    """For each index the nearest index at which the mask is True."""
    true = np.flatnonzero(mask)
    indices = np.arange(len(mask))
    following = np.searchsorted(true, indices).clip(1, len(true) - 1) if len(true) > 1 else 0
    before, after = true[np.maximum(following - 1, 0)], true[following]
    return np.where(indices - before <= after - indices, before, after)


def _default_features(folder: Path) -> str:
    for name in FEATURE_FILES:
        if (folder / f"{name}.npy").is_file():
            return name
    raise NTalkerError(f"{folder} has no audio features: none of {', '.join(f'{name}.npy' for name in FEATURE_FILES)}.")


def box_around(points: Float[np.ndarray, "n k 2"], margin: float) -> Float[np.ndarray, "n 4"]:
    """Boxes (x0, y0, x1, y1) of each frame's points, widened on all sides by a fraction of their longer side."""
    low, high = points.min(axis=1), points.max(axis=1)
    border = margin * (high - low).max(axis=1, keepdims=True)
    return np.concatenate([low - border, high + border], axis=1).astype(np.float32)


def _mouth_opening(landmarks: Float[np.ndarray, "n 68 2"]) -> Float[np.ndarray, " n"]:
    """Gap between the inner lips over the height of the face (brow centre to chin)."""
    upper, lower = np.array(IBUG_LIP_PAIRS).T
    gap = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=2).mean(axis=1)
    return gap / np.linalg.norm(landmarks[:, IBUG_NOSE_ROOT] - landmarks[:, IBUG_CHIN], axis=1)


def _eye_openness(path: Path, ids: list[int], landmarks: Float[np.ndarray, "n 68 2"]) -> Float[np.ndarray, " n"]:
    """1 open to 0 closed: from the blink action unit (AU45) where it was measured, else from the lids' distance."""
    if path.is_file():
        blink = _read_blink(path)
        check_rows(path, len(blink), np.array(ids))
        return (1 - np.clip(blink[np.minimum(ids, len(blink) - 1)], 0, BLINK_SCALE) / BLINK_SCALE).astype(np.float32)
    (upper, lower), (right, left) = np.array(IBUG_LID_PAIRS).T, np.array([edge.upper[::3] for edge in IBUG.eyes]).T
    widths = np.linalg.norm(landmarks[:, right] - landmarks[:, left], axis=2).mean(axis=1)
    gaps = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=2).mean(axis=1)
    return openness_of_gaps(gaps / np.maximum(widths, 1e-6)).astype(np.float32)


def _read_blink(path: Path) -> Float[np.ndarray, " rows"]:
    with path.open(newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        column = next((name for name in rows.fieldnames or () if name.strip() == "AU45_r"), None)
        if column is None:
            raise NTalkerError(f"{path} has no column AU45_r (blink intensity).")
        try:
            blink = np.array([row[column] for row in rows], np.float64)
        except (TypeError, ValueError) as error:
            raise NTalkerError(f"{path} has a value in AU45_r that is no number ({error}).") from error
    if len(blink) == 0 or not np.isfinite(blink).all():
        raise NTalkerError(f"{path} has no values, or NaN, in AU45_r.")
    return blink


def _head_channel(label_paths: list[Path], landmarks: Float[np.ndarray, "n 68 2"]) -> int:
    """The channel of the head, `BLUE` or `RED`, in parsing pictures, whose channel order differs between tools.

    It is the one with more pixels at the facial landmarks of a few frames.
    """
    seen = [i for i in np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2))) if label_paths[i].is_file()][:5]
    votes = np.zeros(3)
    for i in seen:
        colours = cv2.imread(str(label_paths[i]), cv2.IMREAD_COLOR)
        if colours is None:
            raise NTalkerError(f"{label_paths[i]} (labels of frame {i}) cannot be decoded.")
        x, y = np.round(landmarks[i]).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < colours.shape[1]) & (y < colours.shape[0])
        at_face = colours[y[inside], x[inside]] > 127
        votes += at_face[~at_face.all(axis=1)].sum(axis=0)
    return BLUE if votes[BLUE] >= votes[RED] else RED
