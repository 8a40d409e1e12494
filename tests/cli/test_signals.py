"""Commands that are interrupted, ended or killed while they work, as their users and systems do it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import DemoClip
from support.synthetic_clip import write_clip

from ntalker_ns.capture.process import ProcessOptions, process_clip

pytestmark = pytest.mark.slow
PROGRAMS = Path(sys.executable).parent
PATIENCE = 400.0
"""Seconds until a program is given up."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_clip(tmp_path_factory.mktemp("clip") / "ball", num_frames=22, size=48))


@contextmanager
def started(arguments: list[str], until: str) -> Iterator[subprocess.Popen[str]]:
    """A program, once it has printed what is looked for; it does not outlive the block."""
    program = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "400"}
    )
    killer = threading.Timer(PATIENCE, program.kill)
    killer.start()
    try:
        said = ""
        assert program.stdout is not None
        while not re.search(until, said):
            line = program.stdout.readline()
            assert line, said
            said += line
        yield program
    finally:
        killer.cancel()
        program.kill()
        program.wait()


def training(method: str, data: Path, outputs: Path, *more: str) -> list[str]:
    options = ["--vis", "tensorboard", "--output-dir", str(outputs), "--logging.steps-per-log", "1"]
    steps = ["--max-num-iterations", "1000000", "--pipeline.datamanager.dataparser.image-size", "48"]
    return [str(PROGRAMS / "ns-train"), method, "--data", str(data), *options, *steps, *more]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_saves_and_goes_on(data: Path, tmp_path: Path, number: signal.Signals):
    method = "ntalker-splat-small"
    with started(training(method, data, tmp_path), r"\n\d+ \(") as program:
        program.send_signal(number)
        said, _ = program.communicate()
    assert program.returncode == 128 + number
    assert "Traceback" not in said and "To go on: ns-train" in said, said[-2000:]
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    step = int(checkpoint.stem.split("-")[1])
    assert f"Interrupted after {step + 1} of 1000000 steps" in said
    with started(training(method, data, tmp_path, "--load-dir", str(checkpoint.parent)), r"\n\d+ \(") as program:
        program.send_signal(number)
        said, _ = program.communicate()
    steps = [int(path.stem.split("-")[1]) for path in tmp_path.rglob("*.ckpt")]
    assert program.returncode == 128 + number and max(steps) > step


def test_a_killed_training_goes_on_from_its_last_checkpoint(data: Path, tmp_path: Path):
    method = "ntalker-splat-small"
    often = ["--minutes-per-save", "0"]
    with started(training(method, data, tmp_path, *often), r"\n5 \(") as program:
        program.kill()
        program.wait()
    # The kill may have come between a new checkpoint and the removal of the one before.
    steps = {int(path.stem.split("-")[1]): path for path in tmp_path.rglob("*.ckpt")}
    assert 1 <= len(steps) <= 2 and max(steps) >= 3
    models = steps[max(steps)].parent
    with started(training(method, data, tmp_path, "--load-dir", str(models)), rf"\n{max(steps) + 2} \(") as program:
        program.send_signal(signal.SIGTERM)
        said, _ = program.communicate()
    assert program.returncode == 128 + signal.SIGTERM and "Traceback" not in said
    later = [path for path in tmp_path.rglob("*.ckpt") if int(path.stem.split("-")[1]) > max(steps)]
    assert len(later) == 1


def test_a_killed_process_is_cleaned_up_by_the_next_one(demo_clip: DemoClip, tmp_path: Path):
    target = tmp_path / "anna"
    command = [str(PROGRAMS / "ntalker"), "process", str(demo_clip.path), "--output-dir", str(target), "--size", "128"]
    with started(command, "Landmarks|Tracking|Labels") as program:
        program.kill()
        program.wait()
    assert not target.exists()
    left = [path.name for path in tmp_path.iterdir()]
    assert left and all(name.startswith(".anna") for name in left)
    process_clip(demo_clip.path, target, ProcessOptions(size=64))
    assert [path.name for path in tmp_path.iterdir()] == ["anna"]
