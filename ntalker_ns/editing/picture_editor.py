"""An editor without a model: the user edits one frame, and its change is carried to all others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.editing.views import FrameView, RenderView
from ntalker_ns.errors import NTalkerError

MOST_PX = 768
"""Longest side, px, at which pictures are compared with their frames."""


@dataclass
class PictureEditorConfig(EditorConfig):
    """Frames of the head edited by the user; their change is transferred to all other frames."""

    _target: type = field(default_factory=lambda: PictureEditor)
    picture: tuple[Path, ...] = ()
    """The edited frames: one, or several (from the front, from the side, with the mouth open). `ntalker frame` writes
    frames to edit; any size, JPEG, a layer of paint with transparency will do."""
    frame: tuple[int, ...] = ()
    """Frame of each picture in the sequence that drives the head. None given: what `ntalker frame` wrote into the
    files, or its default frame."""

    def check(self, instruction: str) -> None:
        """See `EditorConfig.check`.

        Raises:
            NTalkerError: a picture is missing or no picture.
        """
        from ntalker_ns.editing.registration import read_painting

        if not self.picture:
            raise NTalkerError(
                "There is no picture to follow: write a frame with ntalker frame, edit it, and give it as "
                "--editor.picture."
            )
        if self.frame and len(self.frame) != len(self.picture):
            raise NTalkerError(
                f"--editor.frame names {len(self.frame)} frames for {len(self.picture)} pictures: give one for each."
            )
        for path in self.picture:
            read_painting(path)

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        names = ", ".join(path.name for path in self.picture)
        return f"Edited frames ({names}), no diffusion model: each update applies them in full."

    def default_instruction(self) -> str:
        """See `EditorConfig.default_instruction`."""
        return f"As in {', '.join(path.name for path in self.picture)}" if self.picture else "As in the picture"

    def result_settings(self) -> dict[str, Any]:
        """See `EditorConfig.result_settings`; pictures count by their content."""
        digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in self.picture]
        return {"picture": digests, "frame": list(self.frame)}


class PictureEditor:
    """Carries what was painted on frames of the head to all others; see `SurfaceEditor`."""

    def __init__(self, config: PictureEditorConfig) -> None:
        """
        Args:
            config: names the pictures.
        """
        self.config = config

    def prepare(self, render_view: RenderView, driving: DrivingSequence, size: int, folder: Path) -> None:
        """See `SurfaceEditor.prepare`.

        Raises:
            NTalkerError: a picture does not show its frame.
        """
        from ntalker_ns.editing.carrying import Carrier, PaintedView
        from ntalker_ns.editing.given_frame import frame_of_picture

        painted = []
        for i, path in enumerate(self.config.picture):
            stored = folder / f"picture-{i}.npz"
            if not stored.is_file():
                number = self.config.frame[i] if self.config.frame else None
                self._read(path, frame_of_picture(path, number, driving), render_view, size, stored)
            with np.load(stored) as arrays:
                values = {name: arrays[name] for name in arrays.files}
            edited = values.pop("edited")
            painted.append(PaintedView(FrameView(**values), edited))
        self._carrier = Carrier(painted, driving.rig.eye_distance)

    def _read(self, path: Path, frame: int, render_view: RenderView, size: int, stored: Path) -> None:
        """Aligns a picture with its frame and stores both."""
        from ntalker_ns.editing.registration import read_painting, register
        from ntalker_ns.editing.store import write_whole

        painting = read_painting(path)
        view = render_view(frame, int(np.clip(max(painting.shape[:2]), size, max(size, MOST_PX))))
        found = register(painting, view.picture, view.head, path.name)
        apart = "no face found" if found.mismatch is None else f"landmarks {found.mismatch:.3f} eye distances apart"
        CONSOLE.print(
            f"{path.name} is frame {frame}, {view.size[0]} x {view.size[1]} px: shifted by {found.shift[0]:.1f}, "
            f"{found.shift[1]:.1f} px, edges correlate by {found.likeness:.2f}, {apart}.",
            markup=False,
        )
        content = BytesIO()
        known = {name: values for name, values in vars(view).items() if values is not None}
        np.savez_compressed(content, edited=found.picture, **known)
        write_whole(stored, content.getvalue())

    def edit_views(
        self, frames: Float32[np.ndarray, "n h w 3"], views: Sequence[FrameView]
    ) -> Float32[np.ndarray, "n h w 3"]:
        """See `SurfaceEditor.edit_views`."""
        return np.stack([self._carrier.carry(view) for view in views])

    def unload(self) -> None:
        """See `SurfaceEditor.unload`; there are no weights."""
