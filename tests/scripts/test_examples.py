"""The examples work: those of scripts/examples, and those in docstrings of what Python users call."""

import doctest
import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import DemoClip
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

import ntalker_ns as nt
from ntalker_ns import runs
from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.media.sound import write_wav
from scripts.examples import edit_and_compare, evaluate_head, export_frames, new_voice, speak

TINY_EDIT = {"edit.num_frames": 4, "edit.epochs": 1, "edit.lip_epochs": 0, "edit.updates": 1, "edit.patch_size": 16}
SLOW = {"ntalker_ns.capture.process.process_clip", "ntalker_ns.runs.train", "ntalker_ns.runs.edit"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "ball", 33, channels=CHANNELS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of a few steps."""
    return runs.train_config(tiny_config(data, tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of a second of a tone."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    write_wav(path, (0.3 * np.sin(np.arange(3200) / 5.0)).astype(np.float32))
    return path


class LastLines(doctest.OutputChecker):
    """Compares the end of an example's output: progress is printed before it."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return got.endswith(want)


def docstrings() -> list[Any]:
    """Every docstring with examples."""
    found = []
    for name in ("ntalker_ns", "ntalker_ns.runs", "ntalker_ns.capture.process"):
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
            if test.examples:
                marks = [pytest.mark.slow] if test.name in SLOW else []
                found.append(pytest.param(test, id=test.name.removeprefix("ntalker_ns."), marks=marks))
    return found


@pytest.mark.parametrize("test", docstrings())
def test_the_examples_in_docstrings_hold(
    test: doctest.DocTest, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fixtures = {"run": "run", "data": "data", "speech": "voice"}
    test.globs |= {name: request.getfixturevalue(fixture) for name, fixture in fixtures.items()}
    if test.name.endswith("process_clip"):
        test.globs["clip"] = request.getfixturevalue("demo_clip").path
    test.globs["folder"] = tmp_path
    monkeypatch.chdir(tmp_path)
    output: list[str] = []
    failed, attempted = doctest.DocTestRunner(LastLines()).run(test, out=output.append)
    assert attempted and not failed, "".join(output)


def test_public_names_are_there_and_others_are_not():
    assert {name for name in nt.__all__ if getattr(nt, name) is not None} == set(nt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'cook'"):
        nt.cook  # noqa: B018


def test_a_head_speaks_files_and_frames(run: Path, voice: Path, tmp_path: Path):
    (video,) = new_voice.main(str(run.parent), str(voice), size=32)
    assert video.is_file()
    assert export_frames.main(str(run), str(voice), str(tmp_path / "frames"), size=24) == 5
    picture = cv2.imread(str(tmp_path / "frames" / "00004.png"))
    assert picture is not None and picture.shape == (24, 24, 3)
    assert len((tmp_path / "frames" / "loudness.txt").read_text().split()) == 5


def test_two_speeches_of_one_head_do_not_mix(run: Path, voice: Path):
    head = nt.load_head(run)
    small, red = head.say(voice, size=16), head.say(voice, size=16, background="red")
    first = next(iter(small))
    assert not np.array_equal(next(iter(red)), first)
    np.testing.assert_array_equal(next(iter(small)), first)


@pytest.mark.slow
def test_a_head_is_edited_and_compared(run: Path, voice: Path, tmp_path: Path):
    assert edit_and_compare.main(str(run), "Make it a sepia picture", str(voice), str(tmp_path), **TINY_EDIT).is_file()


def test_a_head_is_evaluated(run: Path, tmp_path: Path):
    assert evaluate_head.main(str(run), str(tmp_path / "report"))["psnr"] > 10.0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.slow
def test_a_clip_becomes_a_video(demo_clip: DemoClip, voice: Path, tmp_path: Path):
    assert speak.main(str(demo_clip.path), str(voice), str(tmp_path), steps=20).is_file()
