"""Writes a data set folder whole or not at all."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.data.clip import TRANSFORMS_FILE
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import check_room, full_disk, partial_path

JPEG_QUALITY = 95
BYTES_PER_PIXEL, BYTES_PER_FRAME = 0.25, 82_000
"""What is stored while a data set is made: a frame's picture and labels; its matte (64 KiB, for a while), landmarks and
features."""
FORMAT, FORMAT_VERSION = "ntalker", 1
FOLDERS = ("images", "masks", "audio_features")
OWN_FILES = re.compile(
    r"images/\d+\.jpg|masks/\d+\.png|audio_features/[^/]+\.(npy|json)|background\.png|preview\.png|audio\.wav|"
    r"landmarks\.npy|landmark_poses\.npy|face_shape\.npy|transforms\.json"
)
"""All that is ever in a data set; anything else in its folder is somebody's own."""


class DatasetWriter:
    """Collects a data set in a hidden folder beside its place and moves it there when all of it is written.

    Used as a context manager: an error inside leaves what was there before untouched, and nothing half-written.

    Args:
        output: the data set's folder, or a link to it; an older data set of ours there is replaced.

    Raises:
        NTalkerError: the folder holds anything that is not of such a data set, or cannot be written to.
    """

    def __init__(self, output: Path):
        self.output = output.expanduser().resolve()
        _check_replaceable(self.output)
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.folder = partial_path(self.output)
            self.folder.mkdir()
            for name in FOLDERS:
                (self.folder / name).mkdir()
        except OSError as error:
            raise NTalkerError(
                f"{output} cannot be written to ({error.strerror}); choose another --output-dir."
            ) from error

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full_disk(self.output, "--output-dir") from error
            if kind is None:
                self._commit()
        except OSError as failure:
            raise NTalkerError(
                f"The data set could not be moved to {self.output} ({failure.strerror}); choose another --output-dir."
            ) from failure
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def check_room(self, frames: int, size: int) -> None:
        """Makes sure that the data set fits on the disk, before the long work.

        Args:
            frames: their number.
            size: side in px.

        Raises:
            NTalkerError: it does not.
        """
        check_room(self.output.parent, round(frames * (BYTES_PER_PIXEL * size**2 + BYTES_PER_FRAME)), "--output-dir")

    def write_image(self, index: int, image: UInt8[np.ndarray, "s s 3"]) -> None:
        """Stores a frame (RGB) as images/INDEX.jpg."""
        _write(self.folder / image_name(index), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def read_image(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """Reads a stored frame back, RGB."""
        image = cv2.imread(str(self.folder / image_name(index)), cv2.IMREAD_COLOR)
        return np.ascontiguousarray(image[..., ::-1])

    def read_grey(self, index: int) -> UInt8[np.ndarray, "s s"]:
        """Reads a stored frame's grey levels, in less time than its colours."""
        return np.asarray(cv2.imread(str(self.folder / image_name(index)), cv2.IMREAD_GRAYSCALE))

    def write_labels(self, index: int, labels: UInt8[np.ndarray, "s s"]) -> None:
        """Stores labels as masks/INDEX.png."""
        _write(self.folder / label_name(index), labels)

    def read_labels(self, index: int) -> UInt8[np.ndarray, "s s"]:
        """Reads stored labels back."""
        return np.asarray(cv2.imread(str(self.folder / label_name(index)), cv2.IMREAD_GRAYSCALE))

    def write_picture(self, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Stores a picture (RGB) under a name of its own."""
        _write(self.folder / name, image[..., ::-1])

    def write_landmarks(self, landmarks: Float[np.ndarray, "n 478 2"]) -> None:
        """Stores the landmarks as landmarks.npy, float32 px."""
        np.save(self.folder / "landmarks.npy", landmarks.astype(np.float32))

    def write_landmark_poses(self, camera_to_worlds: Float[np.ndarray, "n 4 4"]) -> None:
        """Stores the poses by landmarks alone, OpenGL, as landmark_poses.npy, float32."""
        np.save(self.folder / "landmark_poses.npy", camera_to_worlds[:, :3].astype(np.float32))

    def write_face_shape(self, points: Float[np.ndarray, "478 3"]) -> None:
        """Stores the rigid shape's landmarks, world units, as face_shape.npy, float32."""
        np.save(self.folder / "face_shape.npy", points.astype(np.float32))

    def write_transforms(self, values: dict[str, Any]) -> None:
        """Stores transforms.json; a number that is not finite is a mistake and raises."""
        text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **values}, indent=1, allow_nan=False)
        (self.folder / TRANSFORMS_FILE).write_text(text + "\n")

    def _commit(self) -> None:
        old = partial_path(self.output.with_name(f"{self.output.name}-replaced"))
        if self.output.exists():
            os.replace(self.output, old)
        try:
            os.replace(self.folder, self.output)
        except OSError:
            if old.exists():
                os.replace(old, self.output)
            raise
        shutil.rmtree(old, ignore_errors=True)


def image_name(index: int) -> str:
    """A frame's path inside the data set."""
    return f"images/{index:05d}.jpg"


def label_name(index: int) -> str:
    """Its labels' path."""
    return f"masks/{index:05d}.png"


def check_outside(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses to read what would be replaced.

    Args:
        output: the data set's folder.
        inputs: files and folders that the data set is made from; those that do not exist are passed over.

    Raises:
        NTalkerError: one of them lies in the data set's folder.
    """
    place = output.expanduser().resolve()
    for path in inputs:
        if path.exists() and path.resolve().is_relative_to(place):
            raise NTalkerError(f"{path} lies in {output}, which would be replaced; choose another --output-dir.")


def _check_replaceable(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise NTalkerError(f"{output} is a file; choose another --output-dir.")
    if os.path.ismount(output):
        raise NTalkerError(f"{output} is a mount point, which cannot be replaced; give a folder in it to --output-dir.")
    files = sorted(path for path in output.rglob("*") if path.is_symlink() or not path.is_dir())
    ours = _is_our_format(output / TRANSFORMS_FILE)
    foreign = [path for path in files if not (ours and OWN_FILES.fullmatch(path.relative_to(output).as_posix()))]
    if foreign:
        raise NTalkerError(
            f"{foreign[0]} is not of a data set made by `ntalker process`, and all of {output} would be replaced; "
            "choose an empty or new --output-dir."
        )


def _is_our_format(path: Path) -> bool:
    try:
        return json.loads(path.read_text("utf8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def _write(path: Path, image: np.ndarray, flags: list[int] | None = None) -> None:
    # OpenCV's own writing says of a full disk no more than that it failed, and not always that.
    done, coded = cv2.imencode(path.suffix, image, flags or [])
    assert done
    path.write_bytes(coded.tobytes())
