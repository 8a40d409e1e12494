"""Pictures of the live page and of the viewer's panel in every state, taken in headless Chromium.

Example:
    python -m scripts.screenshots --load-config outputs/anna/ntalker-splat-small/TIME/config.yml --audio speech.wav
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError
from scripts.benchmarks.live import a_browser, a_server, chromium, until

PAGE, PANEL = {"width": 1180, "height": 820}, {"width": 1280, "height": 800}
SAYS = "document.getElementById('edit-says').textContent"
PATIENCE = 300.0
"""Seconds that a state may take to come about."""


@dataclass
class Screenshots:
    """Take pictures of the live page and of the panel."""

    load_config: Path
    """The run's config.yml: a head of Gaussians, for an edit that takes a minute."""
    audio: Path
    """Speech, as a wav file: what the microphone records, and a file to be played."""
    output_dir: Path = Path("screenshots")
    """Folder of the pictures."""
    size: int = 384
    """Longest side of the live page's pictures, px."""
    port: int = 7017
    """A free port, for the viewer."""

    def main(self) -> None:
        """Starts servers and browser, and goes through the states."""
        program = chromium()
        if program is None:
            raise NTalkerError("There is no chromium: apt install chromium.")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with a_browser(program, self.audio) as browser:
            self._live(browser)
            self._without_token(browser)
            self._panel(browser)

    def _shot(self, page: Any, name: str) -> None:
        page.screenshot(path=self.output_dir / f"{name}.png")
        print(self.output_dir / f"{name}.png", flush=True)

    def _live(self, browser: Any) -> None:
        with a_server(self.load_config, "--sessions", "1", "--size", str(self.size)) as (address, _):
            page = browser.new_page(viewport=PAGE)
            page.goto(address)
            until(page, "figures.pictures > 50", PATIENCE)
            self._shot(page, "live_idle")
            self._speaking(page)
            self._look(page)
            second = browser.new_page(viewport=PAGE)
            second.goto(address)
            until(second, "document.getElementById('notice').textContent.includes('in the queue')", PATIENCE)
            self._shot(second, "live_queue")
            second.close()
            self._edit(page)
            page.select_option("#media", "webrtc")
            until(page, "!document.getElementById('video').hidden", PATIENCE)
            time.sleep(3.0)
            self._shot(page, "live_webrtc")
        until(page, "document.getElementById('notice').textContent.startsWith('The server does not answer')", PATIENCE)
        self._shot(page, "live_server_gone")
        page.close()

    def _speaking(self, page: Any) -> None:
        page.fill("#text", "Good evening. Here is the news, and it is good news, for a change.")
        page.click("#say button[type=submit]")
        until(page, "figures.speaking", PATIENCE)
        time.sleep(1.2)
        self._shot(page, "live_speaking")
        page.click("#interrupt")
        until(page, "!figures.speaking", PATIENCE)
        box = page.locator("#talk").bounding_box()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.down()
        until(page, "figures.delays.length > 40", PATIENCE)
        self._shot(page, "live_microphone")
        page.mouse.up()
        until(page, "!figures.speaking", PATIENCE)
        broken = {"name": "broken.wav", "mimeType": "audio/wav", "buffer": b"RIFF and nothing else" * 99}
        page.set_input_files("#file", broken)
        until(page, "document.getElementById('message').classList.contains('failed')", PATIENCE)
        self._shot(page, "live_broken_file")

    def _look(self, page: Any) -> None:
        page.select_option("#pose", "still")
        page.fill("#colour", "#2f6f4f")
        page.click("#record")
        time.sleep(1.0)
        self._shot(page, "live_background_recording")
        with page.expect_download():
            page.click("#record")
        page.select_option("#plate", "plate")

    def _edit(self, page: Any) -> None:
        page.click("summary")
        page.fill("#instruction", "Turn her into a bronze statue")
        page.click("#try")
        until(page, "figures.previews === 1", PATIENCE)
        self._shot(page, "live_edit_tried")
        for field, value in (("updates", 1), ("frames", 8), ("epochs", 18)):
            page.fill(f"#{field}", str(value))
        page.click("#start")
        until(page, "figures.edit.running && figures.edit.sheet && figures.edit.fraction > 0.5", PATIENCE)
        self._shot(page, "live_edit_running")
        until(page, f"{SAYS}.startsWith('Done')", PATIENCE)
        page.evaluate("w = document.getElementById('wipe'); w.value = 0.5; w.dispatchEvent(new Event('input'))")
        time.sleep(1.5)
        self._shot(page, "live_edit_done")

    def _without_token(self, browser: Any) -> None:
        with a_server(self.load_config, "--host", "0.0.0.0", "--size", "128") as (address, _):
            page = browser.new_page(viewport=PAGE)
            page.goto(address.partition("/#")[0])
            until(
                page, "document.getElementById('notice').textContent.startsWith('This head needs the token')", PATIENCE
            )
            self._shot(page, "live_without_token")
            page.close()

    def _panel(self, browser: Any) -> None:
        with self._viewer() as address:
            page = browser.new_page(viewport=PANEL)
            page.goto(address)
            page.get_by_text("the clip's own words:").wait_for(timeout=60000)
            time.sleep(8.0)
            self._shot(page, "panel_first_view")
            page.get_by_role("button", name="Play", exact=True).click()
            time.sleep(2.0)
            self._shot(page, "panel_playing")
            page.get_by_role("button", name="Pause", exact=True).click()
            page.get_by_label("Background", exact=True).first.click()
            page.get_by_role("option", name="white", exact=True).click()
            time.sleep(4.0)
            self._shot(page, "panel_background")
            for tab in ("Edit", "Video"):
                page.get_by_text(tab, exact=True).click()
                time.sleep(1.0)
                self._shot(page, f"panel_{tab.lower()}")
            page.close()

    @contextmanager
    def _viewer(self) -> Iterator[str]:
        command = [sys.executable, "-c", "from ntalker_ns.cli.main import entrypoint; entrypoint()", "view"]
        command += ["--load-config", str(self.load_config), "--port", str(self.port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as viewer:
            try:
                _answers(self.port, viewer)
                yield f"http://127.0.0.1:{self.port}/"
            finally:
                viewer.terminate()


def _answers(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Waits until something listens on a port."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise NTalkerError("The viewer did not start; its message is above.")


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Screenshots, description=__doc__)))
