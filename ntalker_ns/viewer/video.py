"""The elements of the panel that render a video of what it shows, to be downloaded."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound
from ntalker_ns.media.video_writer import write_frames
from ntalker_ns.rendering.video_frames import rendered_frames
from ntalker_ns.viewer.shown_head import ShownHead
from ntalker_ns.viewer.sounds import Speech

SIZES = ("128", "256", "384", "512")
"""Longest sides, px."""


class Stopped(Exception):
    """The user cancelled the video."""


class VideoElements:
    """Renders in a thread, between the viewer's pictures and the steps of a training, and sends the file."""

    def __init__(
        self,
        gui: Any,
        head: ShownHead,
        attempt: Callable[[Callable[[], None]], None],
        chosen: Callable[[], tuple[Speech, str]],
    ) -> None:
        """
        Args:
            gui: viser's; the elements go where others would now.
            head: what is rendered, with what it performs.
            attempt: runs work and says what fails.
            chosen: the sound and its name.
        """
        self._head, self._attempt, self._chosen = head, attempt, chosen
        self._stop = threading.Event()
        self._file: tuple[str, bytes] | None = None
        self._size = gui.add_dropdown("Longest side, px", SIZES, "256")
        self._render = gui.add_button("Render a video with sound")
        self._cancel = gui.add_button("Stop", visible=False)
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._download = gui.add_button("Download again", visible=False)
        self._render.on_click(lambda event: self._attempt(lambda: self._make(event.client)))
        self._cancel.on_click(lambda _: self._stop.set())
        self._download.on_click(lambda event: self._send(event.client))

    def _make(self, client: Any) -> None:
        """Renders and sends; viser calls this in a thread."""
        self._stop.clear()
        self._running(True)
        try:
            self._file = self._rendered()
        except Stopped:
            return
        finally:
            self._running(False)
        self._download.visible = True
        self._send(client)

    def _running(self, running: bool) -> None:
        self._render.visible, self._cancel.visible, self._bar.visible = not running, running, running
        self._bar.value = 0.0

    def _rendered(self) -> tuple[str, bytes]:
        """The name and the content of the video."""
        speech, name = self._chosen()
        scene = self._head.scene
        if scene is None or self._size.value not in SIZES:
            raise NTalkerError("Choose a sound and a size first.")
        cameras = sequence_cameras(scene.sequence, size=int(self._size.value), enlarge=True)
        sound = None if speech.waveform is None else Sound.of_waveform(speech.waveform)
        with tempfile.TemporaryDirectory(prefix="ntalker-") as folder:
            path = Path(folder) / "video.mp4"
            frames = rendered_frames(self._head, cameras, self._head.display)
            write_frames(path, self._counted(frames, len(cameras)), scene.sequence.fps, sound)
            return f"{Path(name).stem}.mp4", path.read_bytes()

    def _counted(
        self, pictures: Iterator[UInt8[np.ndarray, "h w 3"]], total: int
    ) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for index, picture in enumerate(pictures):
            if self._stop.is_set():
                raise Stopped
            yield picture
            self._bar.value = 100.0 * (index + 1) / total

    def _send(self, client: Any) -> None:
        if self._file is not None and client is not None:
            client.send_file_download(*self._file)
