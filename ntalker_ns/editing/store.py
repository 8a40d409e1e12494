"""The pictures of an edit on disk: renders and edited frames, by frame and training step.

Each file is written atomically and named after its frame and step, so that an interrupted edit finds what is done, and
a checkpoint finds the pictures that belong to it. Pictures are 8-bit, in training too: a resumed run trains on the same
numbers as one that was never interrupted.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import written_whole
from ntalker_ns.training import distributed

Kind = Literal["base", "head", "torso", "behind", "lips", "before", "edited"]
"""base: renders of the unedited head; head, torso, behind, lips: opacities, what is behind the head, and lip masks in
them; before, edited: input and result of the editor."""

DESCRIPTION_FILE = "edit.json"
_NAME = re.compile(r"(\d+)\.(\d+)\.png")


@dataclass(frozen=True)
class EditStore:
    """The folder of an edit's pictures."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, description: dict[str, Any], interrupted: Path | None, step: int) -> "EditStore":
        """Opens the store of a run in all its processes.

        Args:
            folder: of this run's store.
            description: everything that stored pictures depend on.
            interrupted: store of the interrupted run that this one resumes, if any; its pictures are taken over.
            step: training step at which this run starts.

        Raises:
            NTalkerError: the interrupted run was another edit, or the disk is full.
        """
        store = cls(folder)
        if distributed.rank() == 0:
            if interrupted is not None:
                cls(interrupted).describe(description)
                store.take_over(cls(interrupted))
                store.drop_after(step)
            store.describe(description)
        distributed.wait_for_all()
        return store

    def put(self, kind: Kind, frame: int, step: int, picture: UInt8[np.ndarray, "h w *channels"]) -> None:
        """Writes a picture atomically.

        Args:
            kind: see `Kind`.
            frame: index in the driving sequence.
            step: training step before which it was made.
            picture: RGB, or one channel.

        Raises:
            NTalkerError: the disk is full or the folder not writable.
        """
        ordered = picture[..., ::-1] if picture.ndim == 3 else picture
        # Low compression: higher levels take much longer and save little.
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(ordered), [cv2.IMWRITE_PNG_COMPRESSION, 2])
        write_whole(self._path(kind, frame, step), encoded.tobytes())

    def get(self, kind: Kind, frame: int, step: int) -> UInt8[np.ndarray, "h w *channels"]:
        """Reads a picture.

        Raises:
            NTalkerError: it is missing or damaged.
        """
        path = self._path(kind, frame, step)
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise NTalkerError(f"{path} is missing or cannot be decoded: start the edit again, without --load-dir.")
        return np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture

    def has(self, kind: Kind, frame: int, step: int) -> bool:
        """Whether a picture exists."""
        return self._path(kind, frame, step).is_file()

    def newest(self, kind: Kind, frame: int, step: int) -> int | None:
        """The step of a frame's newest picture made at or before a training step, if any."""
        steps = self._steps(kind).get(frame, [])
        return max((made for made in steps if made <= step), default=None)

    def newest_of_all(self, kind: Kind, step: int) -> dict[int, int]:
        """The step of each frame's newest picture made at or before a training step."""
        newest = {frame: [made for made in steps if made <= step] for frame, steps in self._steps(kind).items()}
        return {frame: max(steps) for frame, steps in newest.items() if steps}

    def prune(self, step: int) -> None:
        """Removes pictures that training after a step does not need: all but each frame's newest.

        Args:
            step: of the oldest checkpoint that is kept.
        """
        for kind in ("before", "edited"):
            for frame, steps in self._steps(kind).items():
                for made in sorted(made for made in steps if made <= step)[:-1]:
                    self._path(kind, frame, made).unlink(missing_ok=True)

    def drop_after(self, step: int) -> None:
        """Removes pictures made after a step: a run resumed at that step makes them again."""
        for kind in ("before", "edited"):
            for frame, steps in self._steps(kind).items():
                for made in steps:
                    if made > step:
                        self._path(kind, frame, made).unlink(missing_ok=True)

    def describe(self, description: dict[str, Any]) -> None:
        """Records everything that the pictures depend on; later calls check that it has not changed.

        Raises:
            NTalkerError: the folder belongs to another edit.
        """
        path = self.folder / DESCRIPTION_FILE
        wanted = json.loads(json.dumps(description))
        if not path.is_file():
            write_whole(path, json.dumps(wanted, indent=2).encode())
            return
        try:
            found = json.loads(path.read_text("utf8"))
        except (OSError, ValueError) as error:
            raise NTalkerError(f"{path} cannot be read ({error}): start the edit again, without --load-dir.") from error
        for name, value in wanted.items():
            if found.get(name) != value:
                raise NTalkerError(
                    f"The run to resume was edited with {name} {found.get(name)}, this one has {value}: resume it with "
                    "the same options, or start a new edit without --load-dir."
                )

    def take_over(self, other: "EditStore") -> None:
        """Adds the pictures of another store, by hard links where the file system allows them.

        Raises:
            NTalkerError: the disk is full.
        """
        for source in sorted(other.folder.rglob("*")):
            target = self.folder / source.relative_to(other.folder)
            if not source.is_file() or source.name.endswith(".part") or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # Another file system, or one without hard links.
                write_whole(target, source.read_bytes())

    def _path(self, kind: Kind, frame: int, step: int) -> Path:
        return self.folder / kind / f"{frame:05d}.{step:06d}.png"

    def _steps(self, kind: Kind) -> dict[int, list[int]]:
        """The steps of each frame's pictures."""
        folder = self.folder / kind
        found: dict[int, list[int]] = {}
        for name in os.listdir(folder) if folder.is_dir() else []:
            if match := _NAME.fullmatch(name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return found


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        NTalkerError: the disk is full or the folder not writable.
    """
    try:
        with written_whole(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise NTalkerError(f"{path} cannot be written ({error.strerror}): make room.") from error


def mask_to_picture(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A mask as a picture of 0 and 255."""
    return mask.astype(np.uint8) * 255
