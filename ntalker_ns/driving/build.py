"""From a processed clip to its driving sequence, in memory or as a folder of a run."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from ntalker_ns.audio.features import check_windows
from ntalker_ns.console import track as progress
from ntalker_ns.data.clip import Clip
from ntalker_ns.data.head_removal import dilation_of, remove_head
from ntalker_ns.data.images import shrink_to
from ntalker_ns.driving.sequence import (
    PLATE_FILE,
    ClipCamera,
    DrivingSequence,
    Track,
    frame_times,
    headless_frame_path,
    thumbnail_path,
    write_folder,
)
from ntalker_ns.face.eyelids import lid_curves
from ntalker_ns.face.keypoints import triangulate_keypoints
from ntalker_ns.face.rig import Rig
from ntalker_ns.face.shape_basis import PosedLandmarks, brow_space, lip_space

THUMBNAIL_SIZE = 64
"""Longest side of a thumbnail in px."""

JPEG_OPTIONS = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
THREADS = 2


@dataclass(frozen=True)
class ClipPictures:
    """Pictures computed from the data set on demand."""

    clip: Clip

    def plate(self) -> UInt8[np.ndarray, "h w 3"]:
        return self.clip.plate()

    def headless_frame(self, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        return headless_frame_of(self.clip, frame, self.clip.image(frame), self.clip.plate())

    def thumbnail(self, frame: int) -> UInt8[np.ndarray, "small_h small_w 3"]:
        return shrink_to(self.clip.image(frame), THUMBNAIL_SIZE)


def headless_frame_of(
    clip: Clip, frame: int, image: UInt8[np.ndarray, "h w 3"], plate: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """A clip frame's torso and background under its head."""
    return remove_head(image, clip.labels(frame), plate, dilation_of(clip.size[0]), clip.torso(frame))


def build_driving(clip: Clip, is_train: Bool[np.ndarray, " n"], features: str | None) -> DrivingSequence:
    """The driving sequence of a clip, its pictures taken from the data set.

    Args:
        clip: the processed clip.
        is_train: which of its frames are of the training split; keypoints are triangulated from those.
        features: name of the audio features, None for the data set's own.

    Raises:
        NTalkerError: the features are unusable, or poses and landmarks do not agree.
    """
    windows, info = clip.features(features)
    check_windows(windows, info)
    keypoints = triangulate_keypoints(clip.landmarks[is_train], clip.camera_to_worlds[is_train], clip.intrinsics)
    openness = np.clip(clip.eye_openness, 0, 1)
    face = PosedLandmarks(clip.landmarks, clip.camera_to_worlds, clip.intrinsics, is_train)
    lips, brows = lip_space(face), brow_space(face)
    rig = Rig(
        keypoints=keypoints,
        lip_points=lips.places,
        lip_basis=lips.motions,
        brow_points=brows.places,
        brow_basis=brows.motions,
        lids=lid_curves(face, openness),
    )
    track = Track(
        camera_to_worlds=clip.camera_to_worlds,
        times=frame_times(len(clip)),
        eye_openness=openness,
        mouth_opening=clip.mouth_opening,
        lip_shapes=lips.shapes,
        brow_shapes=brows.shapes,
        face_boxes=clip.face_boxes,
        lip_boxes=clip.lip_boxes,
        is_train=is_train,
        features=np.ascontiguousarray(windows, dtype=np.float32),
        replay=np.arange(len(clip)),
    )
    return DrivingSequence(
        rig=rig,
        track=track,
        camera=ClipCamera(*clip.intrinsics, *clip.size),
        clip_is_train=is_train & clip.tracked,
        feature_info=info,
        fps=clip.fps,
        source=str(clip.folder.resolve()),
        pictures=ClipPictures(clip),
    )


def write_driving(clip: Clip, sequence: DrivingSequence, folder: Path) -> DrivingSequence:
    """Writes the driving folder of a run: sequence, plate, headless frames and thumbnails; all or nothing.

    Args:
        clip: where the pictures come from.
        sequence: its driving sequence.
        folder: where to; replaced if it is there.

    Returns:
        The sequence, with its pictures in the folder.
    """

    def write_pictures(target: Path) -> None:
        plate = clip.plate()
        _write(target / PLATE_FILE, plate)
        for name in ("headless_frames", "thumbnails"):
            (target / name).mkdir()

        def write_frame(frame: int) -> None:
            image = clip.image(frame)
            _write(headless_frame_path(target, frame), headless_frame_of(clip, frame, image, plate))
            _write(thumbnail_path(target, frame), shrink_to(image, THUMBNAIL_SIZE))

        _for_all(write_frame, range(len(clip)), "Driving sequence")

    return write_folder(folder, sequence, write_pictures)


def _for_all(function, frames: Iterable[int], description: str) -> None:
    frames = list(frames)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in progress(threads.map(function, frames), description, total=len(frames)):
            pass


def _write(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    options = JPEG_OPTIONS if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options):
        raise OSError(f"{path} could not be written.")
