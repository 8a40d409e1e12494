"""How far an edit is: counts, and the time left once each kind of work has been timed."""

from pathlib import Path

import pytest

from ntalker_ns.editing.progress import EditProgress, ProgressWriter, in_minutes


def test_the_time_left_is_of_all_work_that_is_left(tmp_path: Path):
    time = [0.0]
    writer = ProgressWriter(tmp_path, {"render": 2, "edit": 4, "train": 10}, lambda: time[0])
    assert EditProgress.read(tmp_path) is None

    def work(kind: str, seconds: float, count: int = 1) -> EditProgress:
        time[0] += seconds
        writer.note(kind, count, kind, 1, 1)  # type: ignore[arg-type]
        progress = EditProgress.read(tmp_path)
        assert progress is not None
        return progress

    work("render", 7.0)
    assert work("render", 1.0).seconds_left is None
    half = work("edit", 4.0, count=2)
    assert half.seconds_left is None and half.fraction == pytest.approx(4 / 16)
    work("train", 0.5)
    for _ in range(4):
        progress = work("train", 0.5)
    # Two edits of 2 s and five steps of 0.5 s.
    assert progress.seconds_left == pytest.approx(6.5)
    assert progress.fraction == pytest.approx(7.5 / 14.0)
    work("edit", 4.0, count=2)
    for _ in range(5):
        progress = work("train", 0.5)
    assert progress.seconds_left == 0.0 and progress.fraction == 1.0


def test_it_is_said_in_words():
    assert str(EditProgress("Starting")) == "Starting"
    assert str(EditProgress("Training", 3, 9, 150.0)) == "Training 3 of 9; about 2 min left"
    assert in_minutes(42.4) == "42 s"
