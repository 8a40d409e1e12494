"""The page in a real browser: it plays, listens, is interrupted, changes its look, and comes back with the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.browser import a_browser
from support.live_head import drawn_engine
from support.live_page import opened, served

from ntalker_ns.live.guard import Guard
from ntalker_ns.live.voice import BLOCK
from ntalker_ns.media.sound import write_wav
from scripts.benchmarks.live import shown_pictures, until

RATE = 16000
RED_GREEN_BLUE = "[...document.getElementById('picture').getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"


LONG_SENTENCE = "This is a sentence that takes a while, and nobody will ever hear its end, or will they?"


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a tone and half a second of silence."""
    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    time = np.arange(RATE // 2) / RATE
    write_wav(path, np.concatenate([0.7 * np.sin(2 * np.pi * 300 * time), np.zeros(RATE // 2)]).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Any]:
    with a_browser(microphone) as browser:
        yield browser


def test_it_plays_what_is_typed_and_is_interrupted(browser: Any):
    with drawn_engine(0.01) as engine, served(engine) as port:
        page = opened(browser, port)
        until(page, "figures.pictures > 1")
        assert page.evaluate(RED_GREEN_BLUE) == pytest.approx([40, 40, 90], abs=6)
        # The sound begins where the pictures are by now, not at the beginning.
        until(page, "figures.pictures > 60")
        page.fill("#text", LONG_SENTENCE)
        page.press("#text", "Enter")
        until(page, "figures.speaking && figures.soundBytes > 30000")
        assert page.inner_text("#sound") == "Sound is on"
        page.click("#interrupt")
        assert until(page, "figures.interruptMs") < 2000
        until(page, "!figures.speaking")
        spoken = page.evaluate("figures.soundBytes")
        page.wait_for_timeout(400)
        assert page.evaluate("figures.soundBytes") == spoken
        before = page.evaluate("figures.pictures")
        until(page, f"figures.pictures > {before} + 5")
        assert page.faults == []
        page.close()


def test_the_microphone_and_a_file_are_spoken(browser: Any, microphone: Path):
    with drawn_engine(0.01) as engine, served(engine) as port:
        page = opened(browser, port)
        until(page, "figures.session")
        box = page.locator("#talk").bounding_box()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.down()
        until(page, "figures.delays.length > 20")
        assert page.evaluate("figures.soundBytes") > 10000
        page.mouse.up()
        until(page, "!figures.speaking")
        page.set_input_files("#file", microphone)
        until(page, "document.getElementById('message').textContent === 'tone.wav: 1.0 s'")
        until(page, "figures.speaking")
        assert page.faults == []
        page.close()


def test_a_background_a_snapshot_and_a_recording(browser: Any, tmp_path: Path):
    with drawn_engine(0.01, edited=True) as engine, served(engine) as port:
        page = opened(browser, port)
        until(page, "figures.pictures > 5")
        assert page.is_visible("#refinement")
        page.fill("#colour", "#ff0000")
        until(page, f"{RED_GREEN_BLUE}[0] > 240")
        with page.expect_download() as snapshot:
            page.click("#snapshot")
        snapshot.value.save_as(tmp_path / "head.png")
        assert (tmp_path / "head.png").read_bytes()[1:4] == b"PNG"
        page.click("#record")
        page.wait_for_timeout(800)
        with page.expect_download() as recording:
            page.click("#record")
        name = recording.value.suggested_filename
        recording.value.save_as(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
        assert page.faults == []
        page.close()


def test_a_second_browser_waits_and_is_told_so(browser: Any):
    with drawn_engine(0.01) as engine, served(engine) as port:
        first, second = opened(browser, port), None
        until(first, "figures.session")
        second = opened(browser, port)
        until(second, "document.getElementById('notice').textContent.includes('You are number 1 in the queue')")
        first.close()
        until(second, "figures.session && figures.pictures > 5")
        second.close()


def test_it_comes_back_when_the_server_does(browser: Any):
    with drawn_engine(0.01) as engine:
        with served(engine) as port:
            page = opened(browser, port)
            until(page, "figures.pictures > 5")
        until(page, "document.getElementById('notice').textContent.startsWith('The server does not answer')")
        with served(engine, port):
            until(page, "figures.session !== null")
            shown = page.evaluate("figures.pictures")
            until(page, f"figures.pictures > {shown} + 5")
            assert page.inner_text("#notice") == ""
            page.close()


def called(page: Any) -> bool:
    """Asks for WebRTC; whether it connects here. Where it does not, the page says that the WebSocket goes on."""
    page.select_option("#media", "webrtc")
    answer = (
        "!document.getElementById('video').hidden ? 'call' : "
        "document.getElementById('message').textContent.includes('WebRTC does not connect') ? 'socket' : ''"
    )
    return until(page, answer) == "call"


WATCH_COVER = """() => {
    window.covers = [];
    const canvas = document.getElementById("picture");
    new MutationObserver(() => {
        const [box, below] = [canvas, document.getElementById("video")].map((each) => each.getBoundingClientRect());
        const fits = ["top", "left", "width", "height"].every((side) => Math.abs(box[side] - below[side]) < 1);
        const state = canvas.hidden ? "video" : fits ? "covered" : "beside";
        if (covers.at(-1) !== state) covers.push(state);
    }).observe(canvas, { attributes: true, attributeFilter: ["hidden"] });
}"""


def test_webrtc_plays_where_it_connects_and_the_websocket_goes_on(browser: Any):
    with drawn_engine(0.01) as engine, served(engine) as port:
        page = opened(browser, port)
        until(page, "figures.pictures > 5")
        if called(page):
            shown = page.evaluate("figures.pictures")
            until(page, f"figures.pictures > {shown} + 10")
            assert page.evaluate("document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames") > 10
            page.fill("#text", LONG_SENTENCE)
            page.press("#text", "Enter")
            until(page, "figures.speaking")
            page.evaluate(WATCH_COVER)
            page.click("#interrupt")
            until(page, "figures.interruptMs")
            # The picture that the WebSocket brought covers the video until the video shows it, too.
            until(page, "covers.length >= 2")
            assert page.evaluate("covers") == ["covered", "video"]
            assert page.evaluate("document.getElementById('video').muted") is False
            page.select_option("#media", "ws")
        shown = page.evaluate("figures.pictures")
        until(page, f"figures.pictures > {shown} + 5")
        assert page.faults == []
        page.close()


@pytest.mark.parametrize("connection", ["ws", "webrtc"])
def test_what_is_shown_follows_the_sound(browser: Any, connection: str, tmp_path: Path):
    loud = np.repeat([0.1, 0.8, 0.3, 0.9, 0.0, 0.6, 0.2, 0.7], 6)
    sound = np.repeat(loud, BLOCK) * np.sin(np.arange(len(loud) * BLOCK) * 0.3)
    write_wav(tmp_path / "loud.wav", sound.astype(np.float32))
    with drawn_engine(0.01) as engine, served(engine) as port:
        page = opened(browser, port)
        until(page, "figures.pictures > 5")
        page.click("#sound")
        if connection == "webrtc" and not called(page):
            pytest.skip("WebRTC does not connect on this machine")
        until(page, "figures.pictures > 30")
        pictures = shown_pictures(page, tmp_path / "loud.wav")
        bars = {frame: (picture[4:44, 24] > 128).all(axis=-1).mean() for frame, picture in pictures.items()}
        frames = [frame for frame in sorted(bars) if frame < len(loud)]
        assert len(frames) > len(loud) / 3
        # After each change the lips move for some frames.
        assert np.corrcoef([bars[frame] for frame in frames], loud[frames])[0, 1] > 0.9
        assert max(page.evaluate("figures.late")) < 500
        assert page.faults == []
        page.close()


def test_a_page_without_its_token_says_so(browser: Any):
    with drawn_engine(0.01) as engine, served(engine, guard=Guard.of_host("192.0.2.1")) as port:
        page = opened(browser, port)
        until(page, "document.getElementById('notice').textContent.startsWith('This head needs the token')")
        page.close()
