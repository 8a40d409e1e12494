"""`ntalker render`: cameras, the audio clock, and a whole video from a tiny run."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
import yaml
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns.cli.render import Render
from ntalker_ns.driving.cameras import path_shot, sequence_cameras
from ntalker_ns.driving.controls import controlled
from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import read_audio, write_wav
from ntalker_ns.run_folder import read_config
from ntalker_ns.runs import load_run
from ntalker_ns.speech.closures import Closure

pytestmark = pytest.mark.slow

CLIP_FRAMES, SIZE = 22, 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config.yml of a head trained for a few steps, its data set gone and its folder moved."""
    root = tmp_path_factory.mktemp("render")
    data = write_tiny_clip(root / "data", CLIP_FRAMES, SIZE, channels=32)
    config = tiny_config(data, root / "outputs", max_num_iterations=4)
    config.set_timestamp()
    config.save_config()
    trainer: Any = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    shutil.rmtree(data)
    (root / "outputs").rename(root / "moved")
    return next((root / "moved").rglob("config.yml"))


@pytest.fixture(scope="module")
def driving(run: Path) -> DrivingSequence:
    return DrivingSequence.load(run.parent / "driving")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """1.2 seconds of loud and quiet noise at an odd rate."""
    loud = np.random.default_rng(0).normal(0.0, 0.1, 52920).astype(np.float32)
    write_wav(tmp_path / "speech.wav", loud * (np.arange(52920) % 8820 < 4410), 44100)
    return tmp_path / "speech.wav"


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def camera_path(path: Path, count: int, render_time: tuple[float, float] | None = None) -> Path:
    """A straight path of cameras in front of the face; render_time = (first, last) in [0, 1]."""
    times = None if render_time is None else np.linspace(render_time[0], render_time[1], count)
    cameras = []
    for index in range(count):
        pose = np.array([[1.0, 0, 0, 0.01 * index], [0, 0, -1, -3], [0, 1, 0, 0], [0, 0, 0, 1]])
        camera = {"camera_to_world": pose.flatten().tolist(), "fov": 30.0, "aspect": 1.5}
        cameras.append(camera if times is None else camera | {"render_time": float(times[index])})
    description = {"render_height": 20, "render_width": 30, "fps": 25.0, "camera_path": cameras}
    path.write_text(json.dumps(description))
    return path


def test_cameras_project_as_the_clips_do_at_any_size(driving: DrivingSequence):
    for size in (None, 20, 100):
        cameras = sequence_cameras(driving, size=size, enlarge=True)
        scale = 1.0 if size is None else size / SIZE
        assert cameras.shape == (CLIP_FRAMES,)
        assert int(cameras.width[0]) == int(cameras.height[0]) == round(SIZE * scale)
        for name, value in zip(("fx", "fy", "cx", "cy"), driving.camera.intrinsics, strict=True):
            assert float(getattr(cameras, name)[3]) == pytest.approx(value * scale, rel=1e-5)
        assert cameras.times is not None
        np.testing.assert_allclose(cameras.times[:, 0], driving.track.times)
        np.testing.assert_allclose(cameras.camera_to_worlds, driving.track.camera_to_worlds)


def test_cameras_of_a_wide_clip_fill_their_picture(driving: DrivingSequence):
    wide = replace(driving.camera, width=60, height=40, cx=30.0, cy=20.0)
    cameras = sequence_cameras(replace(driving, camera=wide), size=35)
    assert (int(cameras.width[0]), int(cameras.height[0])) == (35, 23)
    assert float(cameras.cx[0]) == pytest.approx(17.5)
    assert float(cameras.cy[0]) == pytest.approx(11.5)


def test_new_audio_replaces_the_features_and_replays_the_clip(driving: DrivingSequence, speech: Path):
    sequence = sequence_for_audio(driving, speech)
    assert len(sequence) == 30
    assert sequence.track.features.shape == (30, 16, 32)
    assert sequence.track.times[0] == 0.0 and sequence.track.times[-1] == 1.0
    assert sequence.track.replay.max() < CLIP_FRAMES
    loudness = sequence.track.features[:, 7:9].mean(axis=(1, 2))
    spoken = (np.arange(30) / 25 % 0.2) < 0.1
    assert np.corrcoef(loudness, spoken)[0, 1] > 0.7


def test_known_closures_go_with_the_sound(driving: DrivingSequence, speech: Path):
    sequence = sequence_for_audio(driving, speech, closures=[Closure(0.36, 0.44, False), Closure(0.96, 1.04, True)])
    assert sequence.closed is not None
    assert sequence.closed.argmax(axis=0).tolist() == [10, 25]
    shown = sequence.take(np.array([10, 3])).closed
    assert shown is not None
    np.testing.assert_array_equal(shown, sequence.closed[[10, 3]])
    assert sequence_for_audio(driving, speech).closed is None


def test_features_of_ones_own_must_fit(driving: DrivingSequence, speech: Path, tmp_path: Path):
    np.save(tmp_path / "own.npy", np.full((30, 16, 32), 0.5, np.float32))
    assert np.all(sequence_for_audio(driving, speech, tmp_path / "own.npy").track.features == 0.5)
    np.save(tmp_path / "own.npy", np.zeros((30, 16, 29), np.float32))
    with pytest.raises(NTalkerError, match=r"Feature width 29 .* trained with 32"):
        sequence_for_audio(driving, speech, tmp_path / "own.npy")


def test_a_path_without_times_lasts_as_long_as_the_audio(driving: DrivingSequence, tmp_path: Path):
    for count in (5, 80):
        shot = path_shot(camera_path(tmp_path / "path.json", count), driving)
        assert shot.in_time and shot.fps == 25.0
        assert shot.cameras.times is not None
        np.testing.assert_allclose(shot.cameras.times[:, 0], driving.track.times, atol=1e-6)
        along = np.minimum(np.arange(CLIP_FRAMES), count - 1) * 0.01
        np.testing.assert_allclose(shot.cameras.camera_to_worlds[:, 0, 3], along, atol=1e-6)


BENT = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 30.0, "aspect": 1.5}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fps": 0}, "fps above 0"),
        ({"fps": -5.0}, "fps above 0"),
        ({"render_width": 0}, "needs a render_width"),
        ({"camera_path": []}, r"\(it has no cameras\)"),
        ({"camera_path": [{"fov": 30.0}]}, r"\(it has no 'camera_to_world'\)"),
        ({"camera_path": 5}, r"\(a value in it has the wrong type\)"),
        ({"camera_path": [BENT | {"render_time": math.nan}]}, "has a render_time that is no number, at camera 0"),
        ({"camera_path": [BENT | {"fov": math.inf}]}, "a field of view that is no number"),
    ],
)
def test_a_path_that_cannot_be_shown_is_said(
    driving: DrivingSequence, tmp_path: Path, fields: dict[str, Any], message: str
):
    path = camera_path(tmp_path / "path.json", 3)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(NTalkerError, match=f"path.json' .*{message}"):
        path_shot(path, driving)


def test_a_path_with_times_shows_those_and_speaks_at_the_right_pace_only(driving: DrivingSequence, tmp_path: Path):
    fits = path_shot(camera_path(tmp_path / "a.json", CLIP_FRAMES, render_time=(0.0, 1.0)), driving)
    assert fits.in_time
    for count, times in ((CLIP_FRAMES, (1.0, 0.0)), (2 * CLIP_FRAMES, (0.0, 1.0)), (8, (0.5, 0.8))):
        shot = path_shot(camera_path(tmp_path / "a.json", count, render_time=times), driving, size=60)
        assert not shot.in_time
        assert shot.cameras.times is not None
        np.testing.assert_allclose(shot.cameras.times[:, 0], np.linspace(*times, count), atol=1e-6)
        assert (int(shot.cameras.width[0]), int(shot.cameras.height[0])) == (60, 40)


def test_a_head_speaks_new_audio(run: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Render(run, tmp_path / "new" / "out.mp4", audio=speech, size=24).main()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]
    frames = decoded(tmp_path / "new" / "out.mp4")
    assert len(frames) == 30
    assert frames[0].shape == (24, 24, 3)
    assert len(read_audio(tmp_path / "new" / "out.mp4")) == pytest.approx(1.2 * 16000, abs=640)
    pipeline = load_run(run)
    model: Any = pipeline.model
    model.set_driving(sequence_for_audio(model.driving, speech))
    expected = model.get_outputs_for_camera(sequence_cameras(model.driving, size=24)[11:12])["rgb"] * 255
    assert np.abs(frames[11] - expected.cpu().numpy()).mean() < 6.0


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The config.yml of a copy under another name whose weights are 0; the run it was copied from is in its place."""
    config = yaml.load(run.read_text(), Loader=yaml.Loader)
    config.output_dir = tmp_path / "outputs"
    shutil.copytree(run.parent, config.get_base_dir())
    copy = shutil.copytree(run.parent, tmp_path / "a copy")
    for folder in (config.get_base_dir(), copy):
        config.pipeline.datamanager.dataparser.driving = config.get_base_dir() / "driving"
        (folder / "config.yml").write_text(yaml.dump(config))
    (path,) = copy.glob("nerfstudio_models/*.ckpt")
    state = torch.load(path, weights_only=True)
    for name in [name for name in state["pipeline"] if name.startswith("_model.head.field.")]:
        state["pipeline"][name] *= 0
    torch.save(state, path)
    return copy / "config.yml"


def test_a_copied_run_speaks_with_its_own_weights(copied: Path):
    pipeline = load_run(copied)
    model: Any = pipeline.model
    assert all((value == 0).all() for value in model.head.field.parameters())
    assert model.driving.folder == copied.parent / "driving"
    (read_config(copied).get_base_dir() / "config.yml").unlink()
    shutil.rmtree(copied.parent / "driving")
    with pytest.raises(NTalkerError, match="a copy/driving"):
        load_run(copied)
    shutil.rmtree(copied.parent / "nerfstudio_models")
    with pytest.raises(NTalkerError, match="a copy/nerfstudio_models"):
        load_run(copied)


def test_what_is_no_run_is_said(run: Path, tmp_path: Path):
    config = tmp_path / "config.yml"
    for text, message in (
        ("a: [1", "cannot be read as a run's configuration"),
        ("!!python/object:absent_plugin.Config {}", "cannot be read as a run's configuration .*absent_plugin"),
        ("a: 1", "not the configuration of a talking head"),
    ):
        config.write_text(text)
        with pytest.raises(NTalkerError, match=message):
            load_run(config)


def test_a_camera_path_shows_the_clip_in_silence(run: Path, tmp_path: Path):
    path = camera_path(tmp_path / "path.json", 4, render_time=(0.2, 0.6))
    Render(run, tmp_path / "out.mp4", camera_path=path, outputs=("rgb", "depth", "accumulation")).main()
    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == 4
    assert frames[0].shape == (20, 90, 3)
    with pytest.raises(NTalkerError, match="no audio track"):
        read_audio(tmp_path / "out.mp4")


def test_a_transparent_head_is_written_as_pictures(run: Path, speech: Path, tmp_path: Path):
    options: dict[str, Any] = {"background": "transparent", "eyes": "blink", "pose": "sway", "smooth": 1.0, "seed": 3}
    Render(run, tmp_path / "frames", audio=speech, size=24, outputs=("rgb", "head"), **options).main()
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [*(f"{index:05d}.png" for index in range(30)), "audio.wav"]
    stored = cv2.imread(str(tmp_path / "frames" / "00011.png"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]] / 255.0
    assert stored.shape == (24, 48, 4)
    pipeline = load_run(run)
    model: Any = pipeline.model
    clip = model.driving
    spoken = sequence_for_audio(clip, speech)
    model.set_driving(controlled(spoken, clip, "blink", "sway", 1.0, 3))
    model.portrait.set_background("transparent")
    outputs = model.get_outputs_for_camera(sequence_cameras(model.driving, size=24)[11:12])
    for name, opacity, columns in (("rgb", "opacity", slice(0, 24)), ("head", "head_opacity", slice(24, 48))):
        part = stored[:, columns]
        np.testing.assert_allclose(part[..., 3:], outputs[opacity].numpy(), atol=0.6 / 255)
        np.testing.assert_allclose(part[..., :3] * part[..., 3:], outputs[name].numpy(), atol=1.2 / 255)


def test_a_text_is_spoken(run: Path, tmp_path: Path):
    Render(run, tmp_path / "out.mp4", text="Guten Abend.", voice="de", size=16).main()
    seconds = len(read_audio(tmp_path / "out.mp4")) / 16000
    assert 0.5 < seconds < 3.0
    assert len(decoded(tmp_path / "out.mp4")) == pytest.approx(25 * seconds, abs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "Good evening.", "voice": "klingon-x"}, "no voice named 'klingon-x'"),
        ({"text": "  "}, "--text is empty"),
        ({"text": "Good evening.", "audio": Path("speech.wav")}, "not both"),
    ],
)
def test_a_text_that_cannot_be_spoken_is_said(run: Path, tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(NTalkerError, match=message):
        Render(run, tmp_path / "out.mp4", **options).main()
    assert not list(tmp_path.iterdir())


def test_faults_are_one_sentence_and_leave_nothing(run: Path, speech: Path, tmp_path: Path):
    out = tmp_path / "new" / "out.mp4"
    (tmp_path / "silent.mp4").write_text("not a video")
    (tmp_path / "path.json").write_text("{}")
    (tmp_path / "plain").touch()
    cases = [
        (Render(run, out), "--audio"),
        (Render(run, out, audio=tmp_path / "none.wav"), "no file"),
        (Render(run, out, audio=tmp_path / "silent.mp4"), "cannot be decoded"),
        (Render(run, out.with_suffix(".avi"), audio=speech), "must end in .mp4"),
        (Render(run, tmp_path / "silent.mp4", audio=tmp_path / "silent.mp4"), "would replace"),
        (Render(run, speech / "out.mp4", audio=speech), "Not a directory"),
        (Render(run, tmp_path / "plain", audio=speech), "Not a directory"),
        (Render(run, out, audio=speech, background="transparent"), r"H\.264 keeps no alpha.* \.webm .*folder"),
        (Render(run, out, audio=speech, background="nowhere.png"), "neither a file nor a colour"),
        (Render(run, out, audio=speech, eyes="wide"), "--eyes wide"),
        (Render(run, out, audio=speech, pose="nod"), "--pose nod"),
        (Render(run, out, audio=speech, size=2), "too small"),
        (Render(run, out, audio=speech, outputs=()), "--outputs is empty"),
        (Render(run, out, audio=speech, seed=-1), "--seed -1"),
        (Render(tmp_path / "config.yml", out, audio=tmp_path / "silent.mp4"), "cannot be decoded"),
        (Render(run, out, audio=speech, refinement_weight=1.5), "not between 0 and 1"),
        (Render(run, out, audio=speech, refinement_weight=0.5), "for edited heads"),
        (Render(run, out, audio=speech, outputs=("colour",)), "choose from"),
        (Render(run, out, audio=speech, camera_path=tmp_path / "path.json"), "not a nerfstudio camera path"),
        (Render(tmp_path / "config.yml", out, audio=speech), "no run"),
    ]
    for command, message in cases:
        with pytest.raises(NTalkerError, match=message):
            command.main()
    assert not out.parent.exists() or not list(out.parent.iterdir())
