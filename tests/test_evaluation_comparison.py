"""The comparison page holds everything and hides who is who; the count is right and refuses what does not belong."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ntalker_ns.capture.video import read_frames
from ntalker_ns.cli.main import run as command
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.comparison import QUESTIONS, comparison_page, playable, tally
from ntalker_ns.evaluation.footage import write_pictures

CANDIDATES = ["ours", "sadtalker", "wav2lip"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = {name: folder / f"{name}.mp4" for name in CANDIDATES}
    for shade, path in enumerate(paths.values()):
        write_pictures(path, [np.full((32, 32, 3), 50 * shade, np.uint8)] * 10, None)
    return paths


def held(page: str) -> dict[str, Any]:
    """What the page's script is given."""
    match = re.search(r'<script id="comparison" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def record(answers: dict[str, str] | str = "ours", session: Any = "a", **changes: Any) -> dict[str, Any]:
    """What the page saves."""
    chosen = dict.fromkeys(QUESTIONS, answers) if isinstance(answers, str) else answers
    saved = {"format": "ntalker-comparison", "format_version": 1, "comparison": "c", "instruction": None}
    saved |= {"candidates": CANDIDATES, "shown": CANDIDATES[::-1], "answers": chosen, "session": session}
    return {**saved, "saved": "2026-01-01T00:00:00Z", **changes}


def write(folder: Path, *records: Any) -> list[Path]:
    paths = [folder / f"answers-{i}.json" for i in range(len(records))]
    for path, content in zip(paths, records, strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_the_page_holds_videos_questions_and_instruction(videos: dict[str, Path]):
    page = comparison_page(videos, videos["ours"], "Make </script> him <b>old</b>")
    content = held(page)
    assert content["instruction"] == "Make </script> him <b>old</b>"
    assert [candidate["name"] for candidate in content["candidates"]] == CANDIDATES
    for candidate in content["candidates"]:
        kind, encoded = candidate["video"].split(",")
        assert kind == "data:video/mp4;base64"
        assert base64.b64decode(encoded) == videos[candidate["name"]].read_bytes()
    assert content["original"] == content["candidates"][0]["video"]
    assert [question["key"] for question in content["questions"]] == list(QUESTIONS)
    assert len(QUESTIONS) == 4


def test_what_browsers_do_not_play_is_encoded_anew(videos: dict[str, Path], tmp_path: Path):
    import cv2

    opencvs, again = tmp_path / "opencv.mp4", tmp_path / "again.mp4"
    writer = cv2.VideoWriter(str(opencvs), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (32, 32))
    for _ in range(10):
        writer.write(np.full((32, 32, 3), (200, 120, 40), np.uint8))
    writer.release()
    again.write_bytes(playable(opencvs))
    with av.open(str(again)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    frames = list(read_frames(again))
    assert len(frames) == 10
    np.testing.assert_allclose(frames[5].mean(axis=(0, 1)), (40, 120, 200), atol=6)
    assert playable(videos["ours"]) == videos["ours"].read_bytes()


def test_nothing_is_loaded_and_nobody_is_named_outside_the_data(videos: dict[str, Path]):
    page = comparison_page(videos)
    shown = page.replace(json.dumps(held(page)), "")
    assert "http" not in shown
    for name in CANDIDATES:
        assert name not in shown


def test_the_same_videos_are_the_same_comparison(videos: dict[str, Path]):
    assert held(comparison_page(videos))["id"] == held(comparison_page(videos, instruction="x"))["id"]
    fewer = {name: videos[name] for name in CANDIDATES[:2]}
    assert held(comparison_page(fewer))["id"] != held(comparison_page(videos))["id"]


def test_videos_that_cannot_be_compared_are_refused(videos: dict[str, Path], tmp_path: Path):
    with pytest.raises(NTalkerError, match="at least two"):
        comparison_page({"ours": videos["ours"]})
    longer = tmp_path / "longer.mp4"
    write_pictures(longer, [np.zeros((32, 32, 3), np.uint8)] * 30, None)
    with pytest.raises(NTalkerError, match=r"longer\.mp4 1\.2 s: compare videos of the same audio"):
        comparison_page({"ours": videos["ours"], "longer": longer})


def test_votes_are_counted_by_question(tmp_path: Path):
    mixed = {"lip_sync": "wav2lip", "editing_quality": "ours", "identity": "ours", "overall": "ours"}
    counted = tally(
        write(tmp_path, record("ours", "a"), record(mixed, "b"), record("sadtalker", "c"), record(mixed, "d"))
    )
    assert counted.people == 4 and counted.repeated == 0
    assert counted.votes["ours"] == {"lip_sync": 1, "editing_quality": 3, "identity": 3, "overall": 3}
    assert counted.votes["wav2lip"]["lip_sync"] == 2
    assert counted.share("ours", "overall") == 75.0
    assert counted.share("wav2lip", "identity") == 0.0
    for question in QUESTIONS:
        assert sum(counted.share(name, question) for name in CANDIDATES) == pytest.approx(100.0)


def test_who_saves_twice_counts_once_with_the_last_answers(tmp_path: Path):
    later = record("wav2lip", "a", saved="2026-01-02T00:00:00Z")
    counted = tally(write(tmp_path, later, record("ours", "a"), record("ours", "a", comparison="other")))
    assert (counted.people, counted.repeated) == (2, 1)
    assert counted.votes["wav2lip"]["overall"] == 1
    assert counted.votes["ours"]["overall"] == 1


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        record(format="other"),
        record(format_version=2),
        record({"lip_sync": "ours"}),
        record("nobody"),
        record(session=3),
    ],
    ids=str,
)
def test_files_that_are_no_answers_are_named(content: Any, tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"answers-1\.json holds no"):
        tally(write(tmp_path, record(), content))


def test_other_candidates_and_no_files_are_refused(tmp_path: Path):
    with pytest.raises(NTalkerError, match="compares a, b, others ours, sadtalker, wav2lip"):
        tally(write(tmp_path, record(), record("a", "b", candidates=["a", "b"])))
    with pytest.raises(NTalkerError, match="no answers"):
        tally([])


def test_the_commands(videos: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.html"
    paths = [str(path) for path in videos.values()]
    assert command(["compare", *paths, "--output", str(page)]) == 0
    assert held(page.read_text("utf8"))["candidates"][1]["name"] == "sadtalker"
    assert command(["tally", *map(str, write(tmp_path, record("ours", "a"), record("wav2lip", "b")))]) == 0
    output = capsys.readouterr().out
    assert "50.00% (1)" in output and "Answers of 2" in output
    assert command(["compare", paths[0], str(tmp_path / "none.mp4")]) == 1
    assert "no video at" in capsys.readouterr().err
    assert command(["compare", paths[0], paths[0]]) == 1
    assert "twice" in capsys.readouterr().err
