"""Frames of an edit on disk: what was rendered, what the editor made of it, and at which training step.

Every picture is written in one piece under a name that says its frame and its step, so that an edit which was broken
off finds what is done, and a checkpoint finds the pictures that belong to it. Pictures are 8-bit: a run that goes on
trains on the same numbers as one that was never stopped.
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

Kind = Literal["base", "head", "torso", "lips", "before", "edited"]
"""Renders of the unedited head, the opacities of head and torso in them, masks of the lips, what an editor was given,
and what it made of it."""

DESCRIPTION_FILE = "edit.json"
_NAME = re.compile(r"(\d+)\.(\d+)\.png")


@dataclass(frozen=True)
class EditStore:
    """The folder of an edit."""

    folder: Path

    def put(self, kind: Kind, frame: int, step: int, picture: UInt8[np.ndarray, "h w *channels"]) -> None:
        """Writes a picture, whole or not at all.

        Args:
            kind: what it is.
            frame: of the driving sequence.
            step: training step before which it was made.
            picture: RGB, or one channel.

        Raises:
            NTalkerError: there is no room, or the folder cannot be written.
        """
        ordered = picture[..., ::-1] if picture.ndim == 3 else picture
        # Low compression: the level changes the size little and the time much.
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(ordered), [cv2.IMWRITE_PNG_COMPRESSION, 2])
        write_whole(self._path(kind, frame, step), encoded.tobytes())

    def get(self, kind: Kind, frame: int, step: int) -> UInt8[np.ndarray, "h w *channels"]:
        """Reads a picture.

        Raises:
            NTalkerError: it is missing or broken.
        """
        path = self._path(kind, frame, step)
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise NTalkerError(f"{path} is missing or cannot be decoded: start the edit again, without --load-dir.")
        return np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture

    def has(self, kind: Kind, frame: int, step: int) -> bool:
        """Whether a picture is there."""
        return self._path(kind, frame, step).is_file()

    def newest(self, kind: Kind, frame: int, step: int) -> int | None:
        """The step of the newest picture of a frame that was made at or before a training step, if there is one."""
        steps = self._steps(kind).get(frame, [])
        return max((made for made in steps if made <= step), default=None)

    def newest_of_all(self, kind: Kind, step: int) -> dict[int, int]:
        """For each frame the step of its newest picture at or before a training step."""
        newest = {frame: [made for made in steps if made <= step] for frame, steps in self._steps(kind).items()}
        return {frame: max(steps) for frame, steps in newest.items() if steps}

    def prune(self, step: int) -> None:
        """Removes pictures that no training after a step will ask for: of each frame, all but the newest.

        Args:
            step: that of the oldest checkpoint that is kept.
        """
        for kind in ("before", "edited"):
            for frame, steps in self._steps(kind).items():
                for made in sorted(made for made in steps if made <= step)[:-1]:
                    self._path(kind, frame, made).unlink(missing_ok=True)

    def drop_after(self, step: int) -> None:
        """Removes what was made after a step: a run that goes on from that step makes it again."""
        for kind in ("before", "edited"):
            for frame, steps in self._steps(kind).items():
                for made in steps:
                    if made > step:
                        self._path(kind, frame, made).unlink(missing_ok=True)

    def describe(self, description: dict[str, Any]) -> None:
        """Writes down what the edit is of, once; later calls check that it is still the same.

        Raises:
            NTalkerError: the folder holds another edit.
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
                    f"The run to resume was edited with {name} {found.get(name)}, this one asks for {value}: use the "
                    "same command with --load-dir added, or start a new edit without it."
                )

    def take_over(self, other: "EditStore") -> None:
        """Makes another store's pictures this one's; no bytes are copied where the file system can link them.

        Raises:
            NTalkerError: there is no room.
        """
        for source in sorted(other.folder.rglob("*")):
            target = self.folder / source.relative_to(other.folder)
            if not source.is_file() or source.name.endswith(".part") or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # Another file system, or one without links.
                write_whole(target, source.read_bytes())

    def _path(self, kind: Kind, frame: int, step: int) -> Path:
        return self.folder / kind / f"{frame:05d}.{step:06d}.png"

    def _steps(self, kind: Kind) -> dict[int, list[int]]:
        """The steps at which pictures of each frame were made."""
        folder = self.folder / kind
        found: dict[int, list[int]] = {}
        for name in os.listdir(folder) if folder.is_dir() else []:
            if match := _NAME.fullmatch(name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return found


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all.

    Raises:
        NTalkerError: there is no room, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise NTalkerError(f"{path} cannot be written ({error.strerror}): make room.") from error
    finally:
        partial.unlink(missing_ok=True)


def mask_to_picture(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A mask as it is stored: 0 and 255."""
    return mask.astype(np.uint8) * 255
