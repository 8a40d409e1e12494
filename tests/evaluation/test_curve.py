"""The curve has each checkpoint's own quality, and says how far the last one is from the best."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns import runs
from ntalker_ns.cli.main import run as command
from ntalker_ns.data.regions import region_psnr
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.curve import COLOURS, HeldoutCurve, curve_picture, heldout_curve
from ntalker_ns.evaluation.heldout import frame_errors

STEPS = [4, 8]
CURVE = HeldoutCurve([100, 200, 300], {"full": [20.0, 21.0, 22.0], "head": [17.0, 19.5, 19.25]}, 46)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(
        write_tiny_clip(folder / "ball", 33),
        folder / "outputs",
        steps_per_save=4,
        max_num_iterations=9,
        save_only_latest_checkpoint=False,
    )
    return runs.train_config(config)


@pytest.fixture(scope="module")
def curve(run: Path) -> HeldoutCurve:
    return heldout_curve(runs.load_run(run), run.parent / "nerfstudio_models")


def test_every_checkpoint_is_a_point(curve: HeldoutCurve):
    assert curve.steps == STEPS
    assert curve.frames == 3
    assert {region: len(values) for region, values in curve.psnr.items()} == dict.fromkeys(COLOURS, len(STEPS))


@pytest.mark.parametrize("point", [0, 1], ids=["first", "last"])
def test_a_point_is_what_that_checkpoint_alone_reaches(run: Path, curve: HeldoutCurve, point: int, tmp_path: Path):
    alone = tmp_path.joinpath(*run.parent.parts[-3:])
    shutil.copytree(run.parent, alone)
    for path in (alone / "nerfstudio_models").iterdir():
        if path.name != f"step-{STEPS[point]:09d}.ckpt":
            path.unlink()
    expected = region_psnr(frame_errors(runs.load_run(alone / "config.yml")))
    for region, value in expected.items():
        assert curve.psnr[region][point] == pytest.approx(value.mean, abs=1e-4), region


def test_the_distance_to_the_best_is_said():
    assert CURVE.gap("head") == (200, pytest.approx(0.25))
    assert CURVE.sentence() == (
        "Last of 3 checkpoints, step 300: full 22.00 dB (the best); head 19.25 dB (0.25 below the best, at step 200)."
    )


def test_the_picture_has_a_line_in_each_regions_colour():
    picture = curve_picture(CURVE).astype(int)
    assert picture.shape == (540, 960, 3)
    for region, colour in COLOURS.items():
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        seen = (np.abs(picture - wanted).max(axis=2) < 8).sum()
        assert (seen > 200) == (region in CURVE.psnr), region


def test_a_single_checkpoint_is_no_curve(run: Path, tmp_path: Path):
    shutil.copy(run.parent / "nerfstudio_models" / "step-000000004.ckpt", tmp_path)
    with pytest.raises(NTalkerError, match="--save-only-latest-checkpoint False"):
        heldout_curve(None, tmp_path)


def test_the_command_writes_the_curve(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)
    options = ["--surroundings", "clip", "--image-size", "24", "--curve", "--output-dir", str(tmp_path)]
    assert command(["evaluate", "--load-config", str(run), *options]) == 0
    name = "ntalker-base-small-curve"
    assert {"report.html", "report.json", "videos", f"{name}.json", f"{name}.png"} == {
        path.name for path in tmp_path.iterdir()
    }
    assert json.loads((tmp_path / f"{name}.json").read_text())["steps"] == STEPS
    assert f"Last of {len(STEPS)} checkpoints, step 8:" in capsys.readouterr().out
