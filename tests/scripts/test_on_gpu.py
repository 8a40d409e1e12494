"""The script for a GPU, rehearsed on a CPU with tiny sizes; and its parts."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.paths import REPOSITORY
from support.tiny_clip import write_tiny_clip

from ntalker_ns.editing.plan import EditConfig
from scripts.benchmarks.diffusion import DiffusionSizes, DiffusionSpeed, DiffusionSpeeds
from scripts.benchmarks.edits import EditSpeed, StepClock

SCRIPT = REPOSITORY / "scripts" / "benchmarks" / "on_gpu.sh"


def on_gpu(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "REHEARSAL": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_section_writes_its_figures(tmp_path: Path):
    data, output = write_tiny_clip(tmp_path / "data"), tmp_path / "figures"
    done = on_gpu(str(data), str(output), "base", "splat", "frames", "ip2p", "edit")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path.stem: json.loads(path.read_text())["sections"] for path in output.glob("*.json")}
    assert {name: list(each) for name, each in found.items()} == {
        "base": ["curve", "step"],
        "splat": ["curve", "gaussians"],
        "splat_frames": ["frames"],
        "frames": ["frames"],
        "ip2p": ["editor"],
        "edit": ["edit"],
    }
    curve = found["base"]["curve"]["ours"]
    assert [point["steps"] for point in curve] == sorted({point["steps"] for point in curve})
    assert curve[-1]["steps"] == 4
    (edit,) = found["edit"]["edit"]["edits"]
    # Six epochs and five on lips, of four frames.
    assert edit["psnr"] > edit["unedited_psnr"] + 1
    assert 0 < edit["lip_step"] < edit["seconds"] and 0 < edit["update_frame"] < edit["seconds"]


def test_a_section_that_fails_does_not_stop_the_next_and_is_named(tmp_path: Path):
    done = on_gpu(str(tmp_path), str(tmp_path / "figures"), "unknown", "frames")
    assert done.returncode == 1
    assert "there is no section unknown" in (tmp_path / "figures" / "unknown.log").read_text()
    assert "There is no run" in (tmp_path / "figures" / "frames.log").read_text()
    assert "failed: unknown frames" in done.stderr


def test_missing_packages_are_a_sentence(tmp_path: Path):
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\nexit 1\n")
    without.chmod(0o755)
    done = on_gpu("data", str(tmp_path / "figures"), PYTHON=str(without))
    assert done.returncode == 1 and "nerfstudio is missing" in done.stderr


def test_the_paper_s_schedule_is_counted_from_its_parts():
    speed = EditSpeed((3, 1), 10, 0.0, large_step=0.03, lip_step=0.01, update_frame=0.1, psnr=30.0, unedited_psnr=10.0)
    plan = EditConfig(num_frames=200, updates=3, epochs=300, lip_epochs=100)
    # 60,000 large patches, 20,000 on lips, 600 edited frames.
    assert math.isclose(speed.whole(plan), 60_000 * 0.03 + 20_000 * 0.01 + 600 * 0.1)


def test_updates_take_the_steps_of_their_strengths_by_the_fastest_batch():
    speeds = DiffusionSpeeds({1: DiffusionSpeed(2.0, 1.0), 4: DiffusionSpeed(1.0, 2.0)}, DiffusionSizes(steps=20))
    # 10, 15 and 20 steps of 200 frames; 20 steps take a second.
    assert math.isclose(speeds.update_seconds, 200 * (10 + 15 + 20) / 20)


def test_a_clock_separates_steps_from_what_lies_between(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 5.0, 7.0, 10.0, 11.0])
    monkeypatch.setattr("scripts.benchmarks.edits.time.perf_counter", lambda: next(times))
    clock = StepClock(torch.device("cpu"))
    step = clock.around(lambda number: number)
    assert [step(3), step(4)] == [3, 4]
    assert clock.seconds == [2.0, 1.0] and clock.between == 5.0 + 3.0
