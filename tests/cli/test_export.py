"""A head of Gaussians from training to files: trained, loaded, rendered by new audio, exported."""

from pathlib import Path

import numpy as np
import pytest
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

import ntalker_ns as nt
from ntalker_ns.cli.main import run
from ntalker_ns.media.sound import write_wav
from ntalker_ns.runs import method_config, train_config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    write_tiny_clip(place / "ball", 22, 48, channels=32)
    return place


@pytest.fixture(scope="module")
def config(place: Path) -> Path:
    config = method_config("ntalker-splat-small", data=place / "ball", output_dir=place / "out", max_num_iterations=5)
    config.pipeline.model.splats.num_gaussians = 300
    config.pipeline.model.splats.relocation_interval = 2
    return train_config(config)


def test_a_head_speaks_new_audio(place: Path, config: Path):
    write_wav(place / "new.wav", np.sin(np.arange(8000) / 20.0).astype(np.float32), 16000)
    head = nt.load_head(config)
    speech = head.say(place / "new.wav", size=32)
    frames = list(speech)
    assert len(frames) == len(speech) > 5
    assert all(frame.shape == (32, 32, 3) and frame.dtype == np.uint8 for frame in frames)
    # The quick way to a frame is the way of all outputs.
    model = head.pipeline.model
    camera = head.pipeline.datamanager.eval_dataset.cameras[0:1]
    outputs = model.get_outputs_for_camera(camera)
    expected = 255.0 * outputs["rgb"].clamp(0.0, 1.0).numpy()
    assert np.abs(model.video_frame(camera) - expected).max() < 1.01


def test_files_for_other_programs(place: Path, config: Path, capsys: pytest.CaptureFixture[str]):
    for name, options in (("a.ply", []), ("a.npz", ["--animated"])):
        assert run(["export", "--load-config", f"{config}", "--output", f"{place / name}", *options]) == 0
        assert f"{place / name}: 300 Gaussians" in capsys.readouterr().out.replace("\n", "")
    assert (place / "a.ply").read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 300\n")
    assert np.load(place / "a.npz")["means"].shape == (300, 3)


def test_what_cannot_be_exported(place: Path, config: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["export", "--load-config", f"{config}", "--output", f"{place / 'a.txt'}"]) == 1
    assert "must end with .ply" in capsys.readouterr().err
    field = train_config(tiny_config(place / "ball", place / "out", max_num_iterations=2))
    assert run(["export", "--load-config", f"{field}", "--output", f"{place / 'b.ply'}"]) == 1
    assert "is a radiance field and has no Gaussians" in capsys.readouterr().err
    assert not (place / "b.ply").exists()
