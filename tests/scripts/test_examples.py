"""The programs of scripts/examples work; pytest itself runs the examples in docstrings."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import DemoClip

import ntalker_ns as nt
from scripts.examples import edit_and_compare, evaluate_head, export_frames, new_voice, speak

TINY_EDIT = {"edit.num_frames": 4, "edit.epochs": 1, "edit.lip_epochs": 0, "edit.updates": 1, "edit.patch_size": 16}


def test_public_names_are_there_and_others_are_not():
    assert {name for name in nt.__all__ if getattr(nt, name) is not None} == set(nt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'cook'"):
        nt.cook  # noqa: B018


def test_a_head_speaks_files_and_frames(example_run: Path, example_voice: Path, tmp_path: Path):
    (video,) = new_voice.main(str(example_run.parent), str(example_voice), size=32)
    assert video.is_file()
    assert export_frames.main(str(example_run), str(example_voice), str(tmp_path / "frames"), size=24) == 5
    picture = cv2.imread(str(tmp_path / "frames" / "00004.png"))
    assert picture is not None and picture.shape == (24, 24, 3)
    assert len((tmp_path / "frames" / "loudness.txt").read_text().split()) == 5


def test_two_speeches_of_one_head_do_not_mix(example_run: Path, example_voice: Path):
    head = nt.load_head(example_run)
    small, red = head.say(example_voice, size=16), head.say(example_voice, size=16, background="red")
    first = next(iter(small))
    assert not np.array_equal(next(iter(red)), first)
    np.testing.assert_array_equal(next(iter(small)), first)


@pytest.mark.slow
def test_a_head_is_edited_and_compared(example_run: Path, example_voice: Path, tmp_path: Path):
    assert edit_and_compare.main(
        str(example_run), "Make it a sepia picture", str(example_voice), str(tmp_path), **TINY_EDIT
    ).is_file()


def test_a_head_is_evaluated(example_run: Path, tmp_path: Path):
    assert evaluate_head.main(str(example_run), str(tmp_path / "report"))["psnr"] > 10.0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.slow
def test_a_clip_becomes_a_video(demo_clip: DemoClip, example_voice: Path, tmp_path: Path):
    assert speak.main(str(demo_clip.path), str(example_voice), str(tmp_path), steps=20).is_file()
