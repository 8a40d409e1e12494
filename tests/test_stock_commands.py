"""nerfstudio's own commands on a run of ours: with the data set, with new audio, and where the data set is gone.

The first start is the real command in a process of its own; the others are called in this one, because each takes
some fifteen seconds only to be imported.
"""

import json
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from nerfstudio.scripts import eval as ns_eval
from nerfstudio.scripts import render as ns_render
from nerfstudio.utils import install_checks
from support.tiny_clip import camera_to_world, write_tiny_clip

from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_model import TalkerModel

pytestmark = pytest.mark.slow

FRAMES, SIZE, HELD_OUT = 22, 40, 2


def command(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Runs one of the environment's commands."""
    program = Path(sys.executable).with_name(name)
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return write_tiny_clip(place / "anna", FRAMES, SIZE, CHANNELS)


@pytest.fixture(scope="module")
def config(place: Path, data: Path) -> Path:
    """The config of a run made by `ns-train` itself, with relative paths from the folder above the data set."""
    done = command(
        "ns-train",
        *("ntalker-base-small", "--data", data.name, "--vis", "tensorboard"),
        *("--max-num-iterations", 4, "--steps-per-eval-image", 2, "--pipeline.target-samples", 4000),
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (place / "outputs").rglob("config.yml")
    return path


@pytest.fixture(scope="module")
def speech(place: Path) -> Path:
    """1.4 s of a swelling tone at 48 kHz: 35 frames."""
    time = np.arange(int(1.4 * 48000)) / 48000
    samples = np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 2 * time) ** 2
    with wave.open(str(place / "new.wav"), "wb") as file:
        file.setparams((1, 2, 48000, len(samples), "NONE", ""))
        file.writeframes((0.5 * 32767 * samples).astype("<i2").tobytes())
    return place / "new.wav"


@pytest.fixture
def without_data(data: Path) -> Iterator[None]:
    """The data set is somewhere else for the length of a test."""
    away = data.with_name("away")
    data.rename(away)
    yield
    away.rename(data)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The times of the cameras that are rendered, in order."""
    seen = []
    render = TalkerModel.get_outputs_for_camera

    def spy(self: TalkerModel, camera: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(None if camera.times is None else float(camera.times.flatten()[0]))
        return render(self, camera, *args, **kwargs)

    monkeypatch.setattr(TalkerModel, "get_outputs_for_camera", spy)
    # Videos need the ffmpeg program; the pictures written here do not.
    monkeypatch.setattr(install_checks, "check_ffmpeg_installed", lambda: None)
    return seen


def run(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: object) -> None:
    """Calls a command's entry point as its script does."""
    monkeypatch.setattr(sys, "argv", ["ns", *map(str, arguments)])
    module.entrypoint()


def pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    for path in found:
        picture = cv2.imread(str(path))
        assert picture is not None and picture.std() > 1, path
    return found


def test_ns_train_leaves_a_run_that_stands_on_its_own(config: Path):
    folder = config.parent
    assert [path.name for path in (folder / "nerfstudio_models").iterdir()] == ["step-000000003.ckpt"]
    assert (folder / "driving" / "sequence.npz").is_file()
    assert len(list((folder / "driving" / "thumbnails").iterdir())) == FRAMES


def test_ns_train_ends_in_one_sentence_on_bad_data(place: Path):
    done = command("ns-train", "ntalker-base-small", "--data", "nowhere", "--output-dir", "bad", cwd=place)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "nowhere" in line
    assert "Traceback" not in done.stderr + done.stdout
    assert not (place / "bad").exists()


def test_ns_eval_scores_the_held_out_frames(config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list):
    output = place / "eval.json"
    run(monkeypatch, ns_eval, "--load-config", config, "--output-path", output)
    results = json.loads(output.read_text())["results"]
    assert {"psnr", "head_psnr", "fps", "num_rays_per_sec"} <= results.keys()
    assert all(np.isfinite(value) for value in results.values())
    assert times == pytest.approx([i / (FRAMES - 1) for i in range(FRAMES - HELD_OUT, FRAMES)])


def test_ns_render_dataset_renders_the_held_out_frames(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list
):
    output = place / "held_out"
    run(monkeypatch, ns_render, "dataset", "--load-config", config, "--output-path", output)
    layers = {f"{name}{part}" for name in ("head", "torso", "background") for part in ("", "_opacity")}
    names = {"rgb", "gt-rgb", "depth", "accumulation", "opacity", "audio_motion"} | layers
    assert {folder.name for folder in (output / "test").iterdir()} == names
    assert len(pictures(output / "test" / "rgb")) == HELD_OUT


def test_ns_render_dataset_speaks_new_audio_without_the_data(
    config: Path, place: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, times: list, without_data: None
):
    output = place / "spoken"
    names = ("--rendered-output-names", "rgb")
    run(monkeypatch, ns_render, "dataset", "--load-config", config, "--data", speech, "--output-path", output, *names)
    assert len(pictures(output)) == 35
    assert times == pytest.approx([i / 34 for i in range(35)])


def test_ns_render_dataset_renders_where_the_data_is_gone(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list, without_data: None
):
    output = place / "gone"
    run(monkeypatch, ns_render, "dataset", "--load-config", config, "--output-path", output, "--split", "train+test")
    assert len(pictures(output / "test" / "rgb")) == HELD_OUT
    assert len(pictures(output / "train" / "rgb")) == FRAMES - HELD_OUT


def test_ns_eval_says_that_it_needs_the_frames(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, without_data: None
):
    with pytest.raises(NTalkerError, match="frames"):
        run(monkeypatch, ns_eval, "--load-config", config, "--output-path", place / "none.json")
    assert not (place / "none.json").exists()


def test_ns_render_spiral_runs_through_the_audio(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list, without_data: None
):
    output = place / "spiral"
    picture = ("--output-format", "images", "--seconds", 0.25)
    run(monkeypatch, ns_render, "spiral", "--load-config", config, "--output-path", output, *picture)
    assert len(pictures(output)) == 6
    assert times == pytest.approx(np.linspace(0, 1, 6))


def test_ns_render_camera_path_follows_the_times_of_the_path(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list
):
    path, output = place / "path.json", place / "path"
    pose = np.vstack([camera_to_world(0.2, 0.0), [0, 0, 0, 1]]).flatten().tolist()
    frames = [{"camera_to_world": pose, "fov": 30.0, "aspect": 1.5, "render_time": time} for time in (0.0, 0.7, 0.2)]
    sizes = {"render_height": 32, "render_width": 48, "seconds": 0.12, "camera_type": "perspective"}
    path.write_text(json.dumps({**sizes, "camera_path": frames}))
    arguments = ("--camera-path-filename", path, "--output-path", output, "--output-format", "images")
    run(monkeypatch, ns_render, "camera-path", "--load-config", config, *arguments)
    assert [cv2.imread(str(file)).shape for file in pictures(output)] == [(32, 48, 3)] * 3  # type: ignore[union-attr]
    assert times == pytest.approx([0.0, 0.7, 0.2])


def test_a_run_folder_can_be_copied_to_another_place(
    config: Path, place: Path, monkeypatch: pytest.MonkeyPatch, times: list, without_data: None
):
    """From a working directory that holds a copied `outputs`, as on another machine."""
    other = place / "other"
    shutil.copytree(place / "outputs", other / "outputs")
    hidden = (place / "outputs").rename(place / "hidden")
    monkeypatch.chdir(other)
    copied = other / config.relative_to(place)
    try:
        run(monkeypatch, ns_render, "dataset", "--load-config", copied, "--output-path", place / "copied")
    finally:
        hidden.rename(place / "outputs")
    assert len(pictures(place / "copied" / "test" / "rgb")) == HELD_OUT
