"""The panel in a real browser: it plays with sound, is scrubbed, dressed, edited and filmed."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.utils import get_camera
from nerfstudio.viewer.viewer import Viewer
from support.browser import a_browser
from support.tiny_talk import tiny_talking_run

from ntalker_ns.driving.controls import controlled
from ntalker_ns.runs import load_run

WIDTH, HEIGHT, TOP = 560, 640, 60
"""Of the part of the page without bar and panel, px."""
SOUND = "document.querySelector('audio')"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_talking_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def viewer(run: Path) -> Iterator[Viewer]:
    config = ViewerConfig(websocket_host="127.0.0.1", websocket_port_default=7401)
    pipeline = load_run(run / "config.yml")
    viewer = Viewer(config, run / "viewer.txt", run, pipeline, train_lock=threading.Lock())
    viewer.init_scene(pipeline.datamanager.train_dataset, "completed")
    # The plain backend takes seconds for more.
    viewer.control_panel._max_res.value = 96
    rendering: list[Any] = []
    viewer.viser_server.on_client_connect(
        lambda client: rendering.append(viewer.render_statemachines[client.client_id])
    )
    yield viewer
    viewer.viser_server.stop()
    for each in rendering:
        each.running = False
        each.join()


@pytest.fixture(scope="module")
def page(viewer: Viewer, run: Path) -> Iterator[Any]:
    with a_browser(run.parents[3] / "anna/tone.wav") as browser:
        page = browser.new_page(viewport={"width": WIDTH + 320, "height": TOP + HEIGHT})
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{viewer.viser_server.get_port()}/")
        page.get_by_text("the clip's own words: 0.9 s.").wait_for(timeout=60000)
        yield page
        assert page.faults == []


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def picture(page: Any, viewer: Viewer) -> np.ndarray:
    """The part of the page that shows the head, once it does not change any more."""
    quiet, last = time.monotonic(), b""
    while time.monotonic() - quiet < 1.5:
        machines = viewer.render_statemachines.values()
        done = all(each.state == "high" and each.next_action is None for each in machines)
        assert viewer.train_lock is not None
        shot = page.screenshot(clip={"x": 0, "y": TOP, "width": WIDTH, "height": HEIGHT})
        if not done or viewer.train_lock.locked() or shot != last:
            quiet, last = time.monotonic(), shot
        time.sleep(0.1)
    return cv2.imdecode(np.frombuffer(last, np.uint8), cv2.IMREAD_COLOR).astype(np.int16)


def head(viewer: Viewer) -> Any:
    """What the viewer shows, a `ShownHead`."""
    return viewer.get_model()


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def field(page: Any, label: str, value: str | float) -> None:
    """Fills the box of an element."""
    row = f"//label[text()='{label}']/ancestor::div[contains(@class, 'Flex-root')][1]"
    box = page.locator(f"xpath={row}//input[not(@type='hidden')]").first
    box.fill(str(value))
    box.press("Enter")


def rendered(run: Path, viewer: Viewer, frame: int) -> np.ndarray:
    """A frame of the clip as the page should show it, without viewer and panel."""
    model = load_run(run / "config.yml").model
    model.set_driving(controlled(model.driving, model.driving, pose="still"))
    (client,) = viewer.viser_server.get_clients().values()
    camera = get_camera(viewer.get_camera_state(client), 162, 140)
    camera.times = torch.tensor([[model.driving.track.times[frame]]], dtype=torch.float32)
    picture = model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1).numpy()[..., ::-1]
    return 255 * cv2.resize(np.ascontiguousarray(picture), (WIDTH, HEIGHT + 9), interpolation=cv2.INTER_LINEAR)[9:]


def test_a_frame_shows_its_mouth(page: Any, viewer: Viewer, run: Path):
    playback = head(viewer).playback
    expected = {frame: rendered(run, viewer, frame) for frame in (7, 3)}
    for frame, other in ((7, 3), (3, 7)):
        field(page, "Frame", frame)
        until(lambda frame=frame: playback.frame() == frame)
        shown = picture(page, viewer)
        assert np.abs(shown - expected[frame])[60:-60].mean() < 6
        mouths = np.abs(expected[3] - expected[7]) > 6
        assert np.abs(shown - expected[frame])[mouths].mean() < 0.7 * np.abs(shown - expected[other])[mouths].mean()


def test_it_plays_with_sound(page: Any, viewer: Viewer):
    choose(page, "Sound", "tone.wav")
    page.get_by_text("tone.wav: 2.0 s.").wait_for()
    until(lambda: page.evaluate(f"{SOUND} && {SOUND}.duration") == pytest.approx(2.0, abs=0.01))
    page.get_by_label("Loop", exact=True).first.check(force=True)
    page.get_by_role("button", name="Play", exact=True).click()
    until(lambda: page.evaluate(f"!{SOUND}.paused && {SOUND}.currentTime > 0.1"))
    shots = {page.screenshot() for _ in range(8)}
    assert len(shots) > 4
    page.get_by_role("button", name="Pause", exact=True).click()
    until(lambda: page.evaluate(f"{SOUND}.paused"))


def test_an_uploaded_file_is_offered(page: Any, viewer: Viewer, run: Path):
    tone = (run.parents[3] / "anna/tone.wav").read_bytes()
    files = page.locator("input[type=file]").first
    files.set_input_files({"name": "{alert(1)}.wav", "mimeType": "audio/wav", "buffer": tone})
    page.get_by_text("{alert(1)}.wav: 2.0 s.").wait_for()
    files.set_input_files({"name": "broken.wav", "mimeType": "audio/wav", "buffer": b"RIFF and nothing else" * 99})
    page.get_by_text("The file holds no sound that can be decoded.").wait_for()
    choose(page, "Sound", "the clip's own words")
    page.get_by_text("the clip's own words: 0.9 s.").wait_for()


def test_a_background_changes_background_pixels_alone(page: Any, viewer: Viewer):
    before = picture(page, viewer)
    choose(page, "Background", "white")
    until(lambda: head(viewer).display.background is not None)
    after = picture(page, viewer)
    changed = np.abs(after - before).max(axis=-1) > 40
    assert changed[20:60].mean() > 0.9
    skin = (before[..., 2] > before[..., 0] + 40) & (before[..., 2] > 150)
    assert skin.mean() > 0.2 and changed[skin].mean() < 0.02
    choose(page, "Background", "as in the run")
    until(lambda: head(viewer).display.background is None)
    assert np.abs(picture(page, viewer) - before).max() < 40


def test_a_video_is_downloaded_with_its_sound(page: Any, tmp_path: Path):
    page.get_by_text("Video", exact=True).click()
    choose(page, "Longest side, px", "128")
    with page.expect_download(timeout=120000) as download:
        page.get_by_role("button", name="Render a video with sound").click()
    download.value.save_as(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 22
    with av.open(str(tmp_path / "video.mp4")) as video:
        loudest = max(float(np.abs(frame.to_ndarray()).max()) for frame in video.decode(audio=0))
    assert loudest == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_an_edit_runs_to_its_end_and_its_head_is_shown(page: Any, viewer: Viewer):
    before = picture(page, viewer)
    page.get_by_text("Edit", exact=True).click()
    start = page.get_by_role("button", name="Start", exact=True)
    start.click()
    page.get_by_text("There is no instruction").wait_for()
    field(page, "Instruction", "Make it sepia")
    page.get_by_role("button", name="Try on this frame").click()
    page.get_by_text("Left before, right after the editor").wait_for(timeout=300000)
    field(page, "Updates (K)", 1)
    field(page, "Frames (N)", 4)
    field(page, "Epochs", 2)
    start.click()
    page.get_by_text("Training on the edited frames").wait_for(timeout=900000)
    page.get_by_text("Done:").wait_for(timeout=900000)
    until(lambda: head(viewer).edited)
    after = picture(page, viewer)
    assert np.abs(after - before).mean() > 4
    field(page, "Refinement", 0)
    until(lambda: head(viewer).display.refinement_weight == 0.0)
    assert np.abs(picture(page, viewer) - after).mean() > 0.2
    page.get_by_label("Shown head", exact=True).click()
    page.get_by_role("option", name="this run").click()
    until(lambda: not head(viewer).edited)
    assert np.abs(picture(page, viewer) - before).mean() < 2
