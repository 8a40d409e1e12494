"""How quickly a live head answers in a browser: Chromium talks to it with a file for a microphone, and interrupts it.

Example:
    python -m scripts.benchmarks.live --load-config outputs/anna/ntalker-base-small/TIME/config.yml --audio speech.wav
"""

import base64
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from jaxtyping import UInt8

from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
"""A Chromium without a screen, a sound card and a microphone."""
ADDRESS = "Talk to it at "


def chromium() -> str | None:
    """Where the program is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def a_browser(program: str, microphone: Path) -> Iterator[Any]:
    """Chromium, driven by Playwright.

    Args:
        program: of `chromium`.
        microphone: a wav file that its microphone plays again and again.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone.resolve()}"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@contextmanager
def a_server(load_config: Path, *options: str) -> Iterator[tuple[str, int]]:
    """`ntalker live` on a free port, in a process of its own; yields its address and the process's number.

    Args:
        load_config: the run's config.yml.
        options: further ones of the command.
    """
    command = [sys.executable, "-c", "from ntalker_ns.cli.main import entrypoint; entrypoint()", "live"]
    command += ["--load-config", str(load_config), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = (line.removeprefix(ADDRESS).strip() for line in server.stdout if line.startswith(ADDRESS))
            if (address := next(said, None)) is None:
                raise NTalkerError("The server did not start; its message is above.")
            yield address, server.pid
        finally:
            server.terminate()


def until(page: Any, expression: str, seconds: float = 20.0) -> Any:
    """Waits until an expression of a page is true; its content security policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"{expression}: {value}; {page.evaluate('JSON.stringify(figures)')}"
        time.sleep(0.03)
    return value


@dataclass
class LiveBenchmark:
    """Measure a live head in a browser."""

    load_config: Path
    """The run's config.yml."""
    audio: Path
    """Speech, as a wav file."""
    size: int | None = None
    """Longest side of the pictures in px; by default what the machine keeps."""
    talks: int = 5
    """Times that the microphone is held; each begins anew."""
    seconds: float = 8.0
    """For how long."""
    interruptions: int = 20
    """Times that speech is interrupted."""
    connection: Literal["ws", "webrtc"] = "ws"
    """How sound and pictures reach the browser."""
    minutes: float = 0.0
    """Instead, play for so many minutes; after each repetition of the sound print how late pictures are, and the memory
    of server and page."""
    lips: bool = False
    """Instead, compare the lips of the pictures that the browser shows with those of a rendered video of the same
    sound."""

    def main(self) -> None:
        """Starts the server and the browser, measures, prints."""
        program = chromium()
        if program is None:
            raise NTalkerError("There is no chromium: apt install chromium.")
        size = [] if self.size is None else ["--size", str(self.size)]
        with a_server(self.load_config, *size) as (address, server), a_browser(program, self.audio) as browser:
            page = browser.new_page(viewport={"width": 1180, "height": 820})
            page.goto(address)
            until(page, "figures.pictures > 50")
            print(page.inner_text("#machine"))
            page.click("#sound")
            if self.connection == "webrtc":
                page.select_option("#media", "webrtc")
                until(page, "!document.getElementById('video').hidden && figures.pictures > 200", 60)
            if self.minutes:
                return self._play(page, server)
            if not self.lips:
                return self._measure(page)
            shown = shown_pictures(page, self.audio)
        self._compare_lips(shown)

    def _play(self, page: Any, server: int) -> None:
        """Plays the sound again and again, and prints once each time."""
        import psutil

        begin, memory = time.monotonic(), psutil.Process(server).memory_info
        while (passed := time.monotonic() - begin) < 60 * self.minutes:
            page.evaluate("figures.late.length = figures.shownAt.length = 0")
            page.set_input_files("#file", self.audio)
            until(page, "figures.speaking", 60)
            until(page, "!figures.speaking", 600)
            late, shown = page.evaluate("[figures.late, figures.shownAt]")
            heap = page.evaluate("performance.memory.usedJSHeapSize")
            print(
                f"{passed:.0f} s: picture behind its sound, ms: {_spread(late)}; frames/s "
                f"{1000 * (len(shown) - 1) / (shown[-1] - shown[0]):.1f}; server {memory().rss >> 20} MB, "
                f"page {heap / 2**20:.1f} MB",
                flush=True,
            )

    def _compare_lips(self, shown: dict[int, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Shown and rendered mouths, against each other and against the made-up person's for the same sound."""
        from ntalker_ns.capture.landmarks import face_landmarks
        from ntalker_ns.cli.demo import known_opening
        from ntalker_ns.evaluation.metrics.lips import lip_sync, mouth_openings
        from ntalker_ns.runs import load_head

        size = max(next(iter(shown.values())).shape)
        speech = load_head(self.load_config).say(self.audio, size=size)
        rendered, known = mouth_openings(face_landmarks(iter(speech))), known_opening(self.audio)
        frames = [frame for frame in sorted(shown) if frame < min(len(rendered), len(known))]
        live = mouth_openings(face_landmarks(shown[frame] for frame in frames))
        print(f"{len(frames)} of {len(rendered)} frames shown, {size} px")
        for name, mouth, truth in (
            ("shown against rendered", live, rendered[frames]),
            ("shown against the sound's", live, known[frames]),
            ("rendered against the sound's", rendered[frames], known[frames]),
        ):
            sync = lip_sync(mouth, truth)
            print(
                f"{name}: correlation {sync.correlation:.3f} (best of {len(sync.shifted)} shifted "
                f"{max(sync.shifted):.2f}), amplitude {sync.amplitude_ratio:.2f}, lag {sync.lag} frames"
            )

    def _measure(self, page: Any) -> None:
        delays: list[float] = []
        rates, late = [], []
        for _ in range(self.talks):
            page.evaluate("figures.delays.length = figures.late.length = figures.shownAt.length = 0")
            _hold(page, self.seconds)
            delays += page.evaluate("figures.delays")
            late += page.evaluate("figures.late")
            shown = page.evaluate("figures.shownAt")
            rates.append(1000 * (len(shown) - 1) / (shown[-1] - shown[0]))
            until(page, "!figures.speaking")
        print(f"frames/s shown: {np.median(rates):.1f}")
        print(f"microphone to picture, ms: {_spread(delays)} of {len(delays)} pictures")
        print(f"picture behind its sound, ms: {_spread(late)}")
        print(f"interruption, order to picture, ms: {_spread(self._interrupted(page))}")

    def _interrupted(self, page: Any) -> list[float]:
        times = []
        for _ in range(self.interruptions):
            page.set_input_files("#file", self.audio)
            until(page, "figures.speaking")
            time.sleep(1.0)
            page.evaluate("figures.interruptMs = null")
            page.click("#interrupt")
            times.append(until(page, "figures.interruptMs"))
            until(page, "!figures.speaking")
        return times


WATCH = """() => {
    const copy = new OffscreenCanvas(1, 1);
    window.shown = [];
    figures.onPicture = (source, heard) => {
        [copy.width, copy.height] = [source.videoWidth || source.width, source.videoHeight || source.height];
        copy.getContext("2d").drawImage(source, 0, 0);
        const kept = copy.convertToBlob({ type: "image/jpeg", quality: 0.95 });
        shown.push([heard, kept]);
    };
    return figures.heard ?? 0;
}"""
"""Keeps each picture that a page shows, with the samples spoken before it."""
FETCH = """async (count) => {
    const some = await Promise.all(shown.splice(0, count).map(async ([heard, kept]) => [heard, await kept]));
    return Promise.all(some.map(async ([heard, blob]) => {
        const reader = new FileReader();
        await new Promise((done) => { reader.onload = done; reader.readAsDataURL(blob); });
        return [heard, reader.result.split(",")[1]];
    }));
}"""
"""Takes some of them, in base64."""


def shown_pictures(page: Any, audio: Path) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
    """Lets the head say a sound file and keeps what the browser shows.

    Args:
        page: the live page.
        audio: what is said.

    Returns:
        By frame of the sound, the picture that was shown with it.
    """
    import cv2

    from ntalker_ns.live.voice import BLOCK

    until(page, "!figures.speaking")
    before = page.evaluate(WATCH)
    page.set_input_files("#file", audio)
    until(page, "figures.speaking", 60)
    until(page, "!figures.speaking", 600)
    time.sleep(1.0)
    page.evaluate("() => { figures.onPicture = null; }")
    pictures: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
    while some := page.evaluate(FETCH, 100):
        for heard, coded in some:
            decoded = cv2.imdecode(np.frombuffer(base64.b64decode(coded), np.uint8), cv2.IMREAD_COLOR)
            # The pictures after the last sound have heard all of it, too: the first one counts.
            pictures.setdefault((heard - before) // BLOCK, np.ascontiguousarray(decoded[..., ::-1]))
    return pictures


def _hold(page: Any, seconds: float) -> None:
    box = page.locator("#talk").bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    time.sleep(seconds)
    page.mouse.up()


def _spread(values: list[float]) -> str:
    return f"median {np.median(values):.0f}, 95th percentile {np.percentile(values, 95):.0f}"


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(LiveBenchmark, description=__doc__)))
