"""Writes a data set folder whole or not at all."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.errors import NTalkerError

JPEG_QUALITY = 95
FORMAT_VERSION = 1


class DatasetWriter:
    """Collects a data set in a hidden folder beside its place and moves it there when all of it is written.

    Used as a context manager: an error inside leaves what was there before untouched, and nothing half-written.

    Args:
        output: the data set's folder; an older data set there is replaced.

    Raises:
        NTalkerError: the folder holds something that is no data set, or cannot be written to.
    """

    def __init__(self, output: Path):
        self.output = output.expanduser().absolute()
        _check_replaceable(self.output)
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self.output.name}.partial-", dir=self.output.parent))
            self.folder.chmod(0o755)
            for name in ("images", "masks", "audio_features"):
                (self.folder / name).mkdir()
        except OSError as error:
            raise NTalkerError(
                f"{output} cannot be written to ({error.strerror}); choose another --output-dir."
            ) from error

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._commit()
        shutil.rmtree(self.folder, ignore_errors=True)

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

    def write_face_shape(self, points: Float[np.ndarray, "478 3"]) -> None:
        """Stores where the landmarks of a calm face are in the world as face_shape.npy, float32."""
        np.save(self.folder / "face_shape.npy", points.astype(np.float32))

    def write_transforms(self, values: dict[str, Any]) -> None:
        """Stores transforms.json; a number that is not finite is a mistake and raises."""
        text = json.dumps({"format": "ntalker", "format_version": FORMAT_VERSION, **values}, indent=1, allow_nan=False)
        (self.folder / "transforms.json").write_text(text + "\n")

    def _commit(self) -> None:
        old = self.folder.with_name(self.folder.name + ".old")
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


def _check_replaceable(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise NTalkerError(f"{output} is a file; choose another --output-dir.")
    if any(output.iterdir()) and not (output / "transforms.json").is_file():
        raise NTalkerError(f"{output} holds files that are no data set; choose an empty or new --output-dir.")


def _write(path: Path, image: np.ndarray, flags: list[int] | None = None) -> None:
    if not cv2.imwrite(str(path), image, flags or []):
        raise NTalkerError(f"{path.name} could not be written to {path.parent}; is the disk full?")
