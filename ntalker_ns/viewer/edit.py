"""The elements of the panel that edit the head by an instruction, and show the edited heads."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.editing.edit_process import LONGEST, MOST_UPDATES, OFFERED, EditProcess, EditRequest
from ntalker_ns.editing.presets import preset_names
from ntalker_ns.editing.preview import preview
from ntalker_ns.editing.progress import PAUSE
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import edit_base, load_run
from ntalker_ns.viewer.browser_sound import picture_element, plain
from ntalker_ns.viewer.shown_head import ShownHead

NONE = "none"
PREVIEW_SIZE = 256
"""Longest side, px."""


class EditElements:
    """Starts edits in processes of their own; the finished head takes the old one's place."""

    def __init__(
        self,
        gui: Any,
        head: ShownHead,
        run: Path,
        attempt: Callable[[Callable[[], None]], None],
        shown: Callable[[], None],
    ) -> None:
        """
        Args:
            gui: viser's; the elements go where others would now.
            head: what is edited.
            run: its folder.
            attempt: runs work and says what fails.
            shown: called when another head is shown.
        """
        self._head, self._attempt, self._shown = head, attempt, shown
        own = f"this run ({run.name})"
        self._heads: dict[str, tuple[Path, Any]] = {own: (run, head.model)}
        self._process: EditProcess | None = None
        self._which = gui.add_dropdown("Shown head", (own,), own)
        self._instruction = gui.add_text("Instruction", "")
        self._preset = gui.add_dropdown("Preset", (NONE, *preset_names()), NONE)
        self._editor = gui.add_dropdown("Editor", OFFERED, OFFERED[0])
        self._picture = gui.add_upload_button("Frame to follow (editor picture)", mime_type="image/*")
        self._bounds = gui.add_checkbox("Bounds of my own", False)
        self._guidance = gui.add_vector2("Guidance, from and to", (3.0, 6.0), step=0.5, visible=False)
        self._steps = gui.add_vector2("Steps, from and to", (10.0, 20.0), step=1.0, visible=False)
        self._updates = gui.add_slider("Updates (K)", 1, MOST_UPDATES, 1, 3)
        self._frames = gui.add_slider("Frames (N)", 4, 200, 4, 24)
        self._epochs = gui.add_slider("Epochs", 1, 300, 1, 18)
        self._try = gui.add_button("Try on this frame")
        self._start = gui.add_button("Start")
        self._stop = gui.add_button("Stop", visible=False)
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._progress, self._sheet = gui.add_markdown(""), gui.add_markdown("")
        self._which.on_update(lambda _: self._attempt(self._choose))
        self._bounds.on_update(lambda _: self._show_bounds())
        self._picture.on_upload(lambda _: self._tell("The picture is there."))
        self._try.on_click(lambda _: self._attempt(self._preview))
        self._start.on_click(lambda _: self._attempt(self._begin))
        self._stop.on_click(lambda _: self._end())

    def _show_bounds(self) -> None:
        self._guidance.visible = self._steps.visible = bool(self._bounds.value)

    def _tell(self, text: str) -> None:
        self._progress.content = plain(text)

    def _request(self) -> EditRequest:
        """What the elements ask for.

        Raises:
            NTalkerError: it cannot be done.
        """
        wanted = {
            "instruction": str(self._instruction.value)[: LONGEST + 1],
            "preset": None if self._preset.value == NONE else self._preset.value,
            "editor": self._editor.value,
            "updates": int(self._updates.value),
            "frames": int(self._frames.value),
            "epochs": int(self._epochs.value),
        }
        if self._bounds.value:
            wanted["guidance"] = tuple(map(float, self._guidance.value))
            wanted["steps"] = tuple(int(value) for value in self._steps.value)
        return EditRequest.of(wanted, self._picture.value.content or None)

    def _preview(self) -> None:
        request = self._request()
        scene, playback = self._head.scene, self._head.playback
        assert scene is not None and playback is not None
        self._tell("Editing one frame ...")
        camera = sequence_cameras(scene.sequence, np.array([playback.frame()]), PREVIEW_SIZE)
        before = self._head.video_frame(camera, self._head.display)
        after = preview(request, before)
        self._sheet.content = picture_element(as_jpeg(np.concatenate([before, after], axis=1)))
        self._tell("Left before, right after the editor, at the upper bounds.")

    def _begin(self) -> None:
        if self._process is not None and self._process.running:
            raise NTalkerError("An edit runs already: stop it first.")
        request = self._request()
        self._process = EditProcess(edit_base(self._heads[self._which.value][0]), request)
        self._running(True)
        self._tell("Starting ...")
        threading.Thread(target=self._attempt, args=(self._follow,), daemon=True).start()

    def _end(self) -> None:
        if self._process is not None:
            self._tell("Stopping ...")
            self._process.stop()

    def _running(self, running: bool) -> None:
        self._start.visible, self._stop.visible, self._bar.visible = not running, running, running

    def _follow(self) -> None:
        """Shows how far the edit is, until its end."""
        process, seen = self._process, None
        assert process is not None
        try:
            while process.running:
                progress = process.progress()
                self._bar.value = 100.0 * min(1.0, progress.fraction)
                if not process.stopped:
                    self._tell(str(progress))
                seen = self._show_sheet(process.sheet(), seen)
                time.sleep(PAUSE)
            self._show_sheet(process.sheet(), seen)
            self._finish(process)
        finally:
            self._running(False)

    def _show_sheet(self, sheet: Path | None, seen: Path | None) -> Path | None:
        if sheet is not None and sheet != seen:
            picture = cv2.imread(str(sheet), cv2.IMREAD_COLOR)
            if picture is not None:
                self._sheet.content = picture_element(as_jpeg(picture[..., ::-1]))
        return sheet

    def _finish(self, process: EditProcess) -> None:
        """Shows the edited head, or says why there is none."""
        if process.config is None:
            failure = process.failure()
            if failure is not None:
                raise NTalkerError(failure)
            return self._tell(process.left())
        self._tell("Loading the edited head ...")
        model = load_run(process.config).model
        name = f"{process.request.words or process.request.editor} ({process.folder.name[11:17]})"
        self._heads[name] = (process.folder, model)
        self._which.options = tuple(self._heads)
        # Its callback shows the head.
        self._which.value = name
        self._tell(f"Done: {process.config}")

    def _choose(self) -> None:
        if self._which.value in self._heads:
            self._head.show(self._heads[self._which.value][1])
            self._shown()


def as_jpeg(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An RGB picture, compressed."""
    return cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
