"""How quickly a live head answers in a browser: Chromium talks to it with a file for a microphone, and interrupts it.

Example:
    python -m scripts.benchmarks.live --load-config outputs/anna/ntalker-base-small/TIME/config.yml --audio speech.wav
"""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

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
    lips: bool = False
    """Instead, compare the lips of the received pictures with those of a rendered video of the same sound."""

    def main(self) -> None:
        """Starts the server and the browser or another program, measures, prints."""
        if self.lips:
            with self._server() as address:
                received, size = asyncio.run(received_openings(address, self.audio))
            return self._compare_lips(received, size)
        program = chromium()
        if program is None:
            raise NTalkerError("There is no chromium: apt install chromium.")
        with self._server() as address, a_browser(program, self.audio) as browser:
            page = browser.new_page(viewport={"width": 1180, "height": 820})
            page.goto(address)
            until(page, "figures.pictures > 50")
            self._measure(page)

    @contextmanager
    def _server(self) -> Iterator[str]:
        """The server's address; it ends with the block."""
        size = [] if self.size is None else ["--size", str(self.size)]
        command = [sys.executable, "-c", "from ntalker_ns.cli.main import entrypoint; entrypoint()", "live"]
        command += ["--load-config", str(self.load_config), "--port", "0", *size]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                yield _address(server)
            finally:
                server.terminate()

    def _compare_lips(self, received: dict[int, float], size: int) -> None:
        """Received and rendered mouths, against each other and against the made-up person's for the same sound."""
        from ntalker_ns.capture.landmarks import face_landmarks
        from ntalker_ns.cli.demo import known_opening
        from ntalker_ns.evaluation.metrics.lips import lip_sync, mouth_openings
        from ntalker_ns.runs import load_head

        speech = load_head(self.load_config).say(self.audio, size=size)
        rendered, known = mouth_openings(face_landmarks(iter(speech))), known_opening(self.audio)
        frames = [frame for frame in sorted(received) if frame < min(len(rendered), len(known))]
        live = np.array([received[frame] for frame in frames])
        print(f"{len(frames)} of {len(rendered)} frames received, {size} px")
        for name, mouth, truth in (
            ("received against rendered", live, rendered[frames]),
            ("received against the sound's", live, known[frames]),
            ("rendered against the sound's", rendered[frames], known[frames]),
        ):
            sync = lip_sync(mouth, truth)
            print(
                f"{name}: correlation {sync.correlation:.3f} (best of {len(sync.shifted)} shifted "
                f"{max(sync.shifted):.2f}), amplitude {sync.amplitude_ratio:.2f}, lag {sync.lag} frames"
            )

    def _measure(self, page: Any) -> None:
        print(page.inner_text("#machine"))
        page.click("#sound")
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


async def received_openings(address: str, audio: Path) -> tuple[dict[int, float], int]:
    """Lets the head say a sound over the WebSocket, as any program would, and measures the pictures that come back.

    Args:
        address: of the server.
        audio: what is said.

    Returns:
        The mouth opening of the picture of each frame of the sound, and the longest side of the pictures.
    """
    import aiohttp
    import cv2

    from ntalker_ns.capture.landmarks import face_landmarks
    from ntalker_ns.evaluation.metrics.lips import mouth_openings
    from ntalker_ns.live.listener import HEADER, PICTURE
    from ntalker_ns.live.voice import BLOCK
    from ntalker_ns.media.sound import SAMPLE_RATE, read_audio, to_pcm16

    sound, pictures = read_audio(audio), {}
    async with aiohttp.ClientSession(address) as http, http.ws_connect("/ws") as head:
        await head.receive_json()
        for start in range(0, len(sound), SAMPLE_RATE):
            await head.send_bytes(to_pcm16(sound[start : start + SAMPLE_RATE]))
        await head.send_json({"type": "end"})
        async for message in head:
            if message.type == aiohttp.WSMsgType.TEXT and message.json()["type"] == "silent":
                break
            if message.type == aiohttp.WSMsgType.BINARY:
                kind, _, spoken = HEADER.unpack_from(message.data)
                if kind == PICTURE and spoken:
                    pictures[spoken // BLOCK] = np.frombuffer(message.data[HEADER.size :], np.uint8)
    decoded = [cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1] for coded in pictures.values()]
    openings = mouth_openings(face_landmarks(iter(decoded)))
    return dict(zip(pictures, openings.tolist(), strict=True)), max(decoded[0].shape)


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith(ADDRESS):
            return line.removeprefix(ADDRESS).strip()
    raise NTalkerError("The server did not start; its message is above.")


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
