"""The panel "Talking head" in nerfstudio's viewer: what the head says, how it looks, and videos and edits of it."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.viewer.browser_sound import BrowserSound, plain
from ntalker_ns.viewer.edit import EditElements
from ntalker_ns.viewer.look import LookElements
from ntalker_ns.viewer.playback import Playback
from ntalker_ns.viewer.shown_head import ShownHead
from ntalker_ns.viewer.sounds import OWN, Sounds, Speech
from ntalker_ns.viewer.video import VideoElements

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

TICK = 0.04
"""Seconds between two pictures that are asked for while it plays; a slower machine shows fewer."""
PLAYING_FPS, STOCK_FPS = 12, 30
"""Frames/s by which nerfstudio chooses the size of moving pictures, while it plays and otherwise."""
SLIDER_SECONDS, SYNC_SECONDS = 0.25, 5.0
"""Seconds between two moves of the slider, and two corrections of the browser's sound."""


class TalkingHeadPanel:
    """The panel's elements and what they do."""

    def __init__(self, viewer: "Viewer", head: ShownHead, clip: DrivingSequence, sounds: Path | None) -> None:
        """
        Args:
            viewer: nerfstudio's.
            head: what it shows.
            clip: the head's own driving sequence.
            sounds: a folder of sound files.
        """
        self._viewer, self._head, self._clip = viewer, head, clip
        self._sounds = Sounds(clip, sounds)
        self._speech = Speech(None, clip)
        self._playback = head.playback = Playback(len(clip), clip.fps)
        self._started = threading.Event()
        gui = self._gui = viewer.viser_server.gui
        self._hide_stock()
        # Above nerfstudio's elements.
        self._folder = gui.add_folder("Talking head", order=-1.0)
        with self._folder:
            self._sound_elements()
            with gui.add_folder("Look"):
                self._look = LookElements(gui, head, self._redraw, self._perform)
            with gui.add_folder("Video", expand_by_default=False):
                self._video = VideoElements(gui, head, self._attempt, lambda: (self._speech, self._sound.value))
            with gui.add_folder("Edit", expand_by_default=False):
                run = viewer.log_filename.parent
                self._edit = EditElements(gui, head, run, self._attempt, self._show_head)
            self._status = gui.add_markdown("")
        self._attempt(self._choose)
        threading.Thread(target=self._follow, daemon=True).start()

    def _sound_elements(self) -> None:
        gui = self._gui
        self._sound = gui.add_dropdown("Sound", tuple(self._sounds.names), OWN)
        self._upload = gui.add_upload_button("Add a sound or video file", mime_type="audio/*,video/*")
        self._play = gui.add_button("Play")
        self._pause = gui.add_button("Pause", visible=False)
        self._loop = gui.add_checkbox("Loop", False)
        self._frame = gui.add_slider("Frame", 0, len(self._clip) - 1, 1, 0)
        self._browser = BrowserSound(gui)
        self._sound.on_update(lambda _: self._attempt(self._choose))
        self._upload.on_upload(lambda _: self._attempt(self._take_upload))
        self._play.on_click(lambda _: self.play())
        self._pause.on_click(lambda _: self.pause())
        self._loop.on_update(lambda _: self._repeat())
        self._frame.on_update(self._scrub)

    def _hide_stock(self) -> None:
        """Hides elements of nerfstudio's that have no use here."""
        viewer = self._viewer
        # A second slider of time.
        viewer.control_panel._time.set_hidden(True)
        # There are no training cameras in the scene, so nothing to be hidden behind the head.
        viewer.hide_images.visible = False
        viewer.control_panel._layer_depth.value = False
        if viewer.trainer is None:
            viewer.pause_train.visible = False

    def play(self) -> None:
        """Plays on."""
        begin = self._playback.play()
        self._playing(True)
        self._browser.play(begin)
        self._started.set()

    def pause(self) -> None:
        """Stops; the frame stays."""
        self._playback.pause()
        self._started.clear()
        self._browser.pause()
        self._playing(False)
        self._frame.value = self._playback.frame()
        self._redraw()

    def _playing(self, playing: bool) -> None:
        self._play.visible, self._pause.visible = not playing, playing
        for each in list(self._viewer.render_statemachines.values()):
            each.target_fps = PLAYING_FPS if playing else STOCK_FPS

    def _choose(self) -> None:
        """Takes the chosen sound."""
        self.pause()
        self._tell("Computing what the lips do ...")
        speech = self._sounds.speech(self._sound.value)
        self._speech = speech
        self._playback.load(len(speech.sequence), speech.sequence.fps)
        self._browser.load(speech.waveform)
        order = self._frame.order
        self._frame.remove()
        with self._folder:
            self._frame = self._gui.add_slider("Frame", 0, max(1, len(speech.sequence) - 1), 1, 0, order=order)
        self._frame.on_update(self._scrub)
        self._perform()
        silent = " Its sound is not there any more: the lips move in silence." if speech.waveform is None else ""
        self._tell(f"{self._sound.value}: {self._playback.seconds:.1f} s.{silent}")

    def _take_upload(self) -> None:
        file = self._upload.value
        self._tell("Reading the file ...")
        name = self._sounds.upload(file.name, file.content)
        self._sound.options = tuple(self._sounds.names)
        # Its callback takes the sound.
        self._sound.value = name

    def _repeat(self) -> None:
        self._playback.loop = bool(self._loop.value)

    def _scrub(self, event: Any) -> None:
        """The user moved the slider; without a client it was this panel."""
        if event.client is None:
            return
        self._playback.seek(int(self._frame.value))
        if self._playback.playing:
            self._browser.play(self._playback.position())
        self._redraw()

    def _perform(self) -> None:
        """Shows the chosen sound with the chosen eyes and motion."""
        self._head.perform(self._look.scene(self._speech.sequence, self._clip))
        self._redraw()

    def _show_head(self) -> None:
        """Another head is shown."""
        self._look.show_weight()
        self._redraw()

    def _redraw(self) -> None:
        # A browser that leaves meanwhile has no picture any more.
        with suppress(KeyError):
            self._viewer._trigger_rerender()

    def _follow(self) -> None:
        """Asks for pictures while it plays, moves the slider, and keeps the browser's sound in step."""
        while True:
            self._started.wait()
            moved = synced = time.monotonic()
            repeats = self._playback.repeats()
            while self._started.wait(0) and self._playback.playing:
                self._redraw()
                now = time.monotonic()
                if now - moved > SLIDER_SECONDS:
                    moved, self._frame.value = now, self._playback.frame()
                if now - synced > SYNC_SECONDS or self._playback.repeats() != repeats:
                    synced, repeats = now, self._playback.repeats()
                    self._browser.play(self._playback.position())
                time.sleep(TICK)
            if self._started.is_set():
                self.pause()

    def _attempt(self, work: Callable[[], None]) -> None:
        """Does what an element asks for; what fails is said in the panel."""
        try:
            work()
        except NTalkerError as error:
            self._tell(str(error))
        except Exception:
            CONSOLE.print_exception()
            self._tell("That failed by a fault of this program: its message is where the viewer was started.")

    def _tell(self, text: str) -> None:
        self._status.content = plain(text)
