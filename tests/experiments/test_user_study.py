"""The comparison page holds everything and hides who is who; the count is right and refuses what does not belong."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ntalker_ns.cli.main import run as command
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.footage import write_pictures
from ntalker_ns.experiments.user_study import QUESTIONS, Playable, Tally, comparison_page, playable, tally
from ntalker_ns.media.video_reader import read_frames

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


KEY = {"id-ours": "ours", "id-sad": "sadtalker", "id-wav": "wav2lip"}
CODES = {name: code for code, name in KEY.items()}


def record(answers: dict[str, str] | str = "ours", session: Any = "a", **changes: Any) -> dict[str, Any]:
    """What the page saves, with names of systems for their ids."""
    chosen = dict.fromkeys(QUESTIONS, answers) if isinstance(answers, str) else answers
    chosen = {question: CODES.get(name, name) for question, name in chosen.items()}
    saved = {"format": "ntalker-comparison", "format_version": 2, "comparison": "c", "instruction": None}
    saved |= {"candidates": list(KEY), "shown": list(KEY)[::-1], "questions": list(chosen), "answers": chosen}
    return {**saved, "session": session, "saved": "2026-01-01T00:00:00Z", **changes}


def key(folder: Path, comparison: str = "c", candidates: dict[str, str] = KEY) -> Path:
    """What is written beside a page."""
    content = {"format": "ntalker-comparison-key", "format_version": 2, "comparison": comparison}
    path = folder / f"{comparison}.key.json"
    path.write_text(json.dumps({**content, "candidates": candidates}))
    return path


def write(folder: Path, *records: Any) -> list[Path]:
    paths = [folder / f"answers-{i}.json" for i in range(len(records))]
    for path, content in zip(paths, records, strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_the_page_holds_videos_questions_and_instruction(videos: dict[str, Path]):
    page = comparison_page(videos, videos["ours"], "Make </script> him <b>old</b>")
    content, names = held(page.html), json.loads(page.key)["candidates"]
    assert content["instruction"] == "Make </script> him <b>old</b>"
    assert sorted(names.values()) == CANDIDATES
    for candidate in content["candidates"]:
        kind, encoded = candidate["video"].split(",")
        assert kind == "data:video/mp4;base64"
        assert base64.b64decode(encoded) == videos[names[candidate["id"]]].read_bytes()
    assert base64.b64decode(content["original"].split(",")[1]) == videos["ours"].read_bytes()
    assert [question["key"] for question in content["questions"]] == list(QUESTIONS)
    assert len(QUESTIONS) == 4


def test_what_browsers_do_not_play_is_encoded_anew(videos: dict[str, Path], tmp_path: Path):
    import cv2

    opencvs, again = tmp_path / "opencv.mp4", tmp_path / "again.mp4"
    writer = cv2.VideoWriter(str(opencvs), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (32, 32))
    for _ in range(10):
        writer.write(np.full((32, 32, 3), (200, 120, 40), np.uint8))
    writer.release()
    again.write_bytes(playable(opencvs).content)
    with av.open(str(again)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    frames = list(read_frames(again))
    assert len(frames) == 10
    np.testing.assert_allclose(frames[5].mean(axis=(0, 1)), (40, 120, 200), atol=6)
    assert playable(videos["ours"]) == Playable("mp4", videos["ours"].read_bytes())


@pytest.mark.parametrize(
    ("ending", "codec", "kept"),
    [
        ("mp4", "libx264", "mp4"),
        ("webm", "libvpx-vp9", "webm"),
        ("avi", "libx264", None),
        ("mkv", "libx264", None),
        ("mkv", "libvpx-vp9", None),
        ("mov", "libx264", None),
    ],
)
def test_the_container_has_to_be_one_that_browsers_play(ending: str, codec: str, kept: str | None, tmp_path: Path):
    path = tmp_path / f"video.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for shade in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * shade, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    video = playable(path)
    assert video.container == (kept or "mp4")
    assert (video.content == path.read_bytes()) == (kept is not None)


def test_nothing_is_loaded_and_nobody_is_named(videos: dict[str, Path]):
    page = comparison_page(videos).html
    assert "http" not in page.replace(json.dumps(held(page)), "")
    for name in CANDIDATES:
        assert name not in page


def test_the_source_does_not_say_in_which_order_the_videos_were_given(videos: dict[str, Path]):
    turned = {name: videos[name] for name in CANDIDATES[::-1]}
    assert comparison_page(turned).html == comparison_page(videos).html


def test_only_what_can_be_judged_is_asked(videos: dict[str, Path]):
    def asked(**shown: Any) -> list[str]:
        return [question["key"] for question in held(comparison_page(videos, **shown).html)["questions"]]

    assert asked() == ["lip_sync", "overall"]
    assert asked(original=videos["ours"]) == ["lip_sync", "identity", "overall"]
    assert asked(instruction="Make him old") == ["lip_sync", "editing_quality", "overall"]


def test_the_same_videos_are_the_same_comparison(videos: dict[str, Path]):
    assert held(comparison_page(videos).html)["id"] == held(comparison_page(videos, instruction="x").html)["id"]
    fewer = {name: videos[name] for name in CANDIDATES[:2]}
    assert held(comparison_page(fewer).html)["id"] != held(comparison_page(videos).html)["id"]


def test_videos_that_cannot_be_compared_are_refused(videos: dict[str, Path], tmp_path: Path):
    with pytest.raises(NTalkerError, match="at least two"):
        comparison_page({"ours": videos["ours"]})
    with pytest.raises(NTalkerError, match="copy and ours are the same video"):
        comparison_page({"ours": videos["ours"], "copy": videos["ours"]})
    longer = tmp_path / "longer.mp4"
    write_pictures(longer, [np.zeros((32, 32, 3), np.uint8)] * 30, None)
    with pytest.raises(NTalkerError, match=r"longer\.mp4 1\.2 s: compare videos of the same audio"):
        comparison_page({"ours": videos["ours"], "longer": longer})


def test_votes_are_counted_by_question(tmp_path: Path):
    mixed = {"lip_sync": "wav2lip", "editing_quality": "ours", "identity": "ours", "overall": "ours"}
    records = record("ours", "a"), record(mixed, "b"), record("sadtalker", "c"), record(mixed, "d")
    counted = tally(write(tmp_path, *records), [key(tmp_path)])
    assert counted.viewings == 4 and counted.repeated == 0
    assert counted.votes["ours"] == {"lip_sync": 1, "editing_quality": 3, "identity": 3, "overall": 3}
    assert counted.votes["wav2lip"]["lip_sync"] == 2
    assert counted.share("ours", "overall") == 75.0
    assert counted.share("wav2lip", "identity") == 0.0
    for question in QUESTIONS:
        assert sum(counted.share(name, question) for name in CANDIDATES) == pytest.approx(100.0)


def test_pages_that_ask_less_count_where_they_ask(tmp_path: Path):
    fewer = record({"lip_sync": "ours", "overall": "wav2lip"}, "b", comparison="d")
    counted = tally(write(tmp_path, record("ours", "a"), fewer), [key(tmp_path), key(tmp_path, "d")])
    assert [counted.answers(question) for question in QUESTIONS] == [2, 1, 1, 2]
    assert counted.share("ours", "identity") == 100.0
    assert counted.share("ours", "overall") == 50.0


def test_intervals_are_wilsons():
    def interval(votes: int, others: int) -> tuple[float, float]:
        return Tally({"a": {"overall": votes}, "b": {"overall": others}}, votes + others, 0).interval("a", "overall")

    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for votes, others, expected in [
        (81, 182, (25.53, 36.62)),
        (15, 133, (6.24, 16.05)),
        (0, 20, (0.0, 16.11)),
        (1, 28, (0.61, 17.18)),
    ]:
        assert interval(votes, others) == pytest.approx(expected, abs=0.01)
    assert interval(0, 0) == (0.0, 100.0)


def test_who_saves_twice_counts_once_with_the_last_answers(tmp_path: Path):
    later = record("wav2lip", "a", saved="2026-01-02T00:00:00Z")
    records = later, record("ours", "a"), record("ours", "a", comparison="other")
    counted = tally(write(tmp_path, *records), [key(tmp_path), key(tmp_path, "other")])
    assert (counted.viewings, counted.repeated) == (2, 1)
    assert counted.votes["wav2lip"]["overall"] == 1
    assert counted.votes["ours"]["overall"] == 1


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        record(format="other"),
        record(format_version=1),
        record({"lip_sync": "ours"}, questions=list(QUESTIONS)),
        record({}),
        record("nobody"),
        record(session=3),
    ],
    ids=str,
)
def test_files_that_are_no_answers_are_named(content: Any, tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"answers-1\.json holds no ((?!Error\().)*$"):
        tally(write(tmp_path, record(), content), [key(tmp_path)])


def test_other_candidates_no_files_and_no_key_are_refused(tmp_path: Path):
    others = key(tmp_path, "d", {"1": "a", "2": "b"})
    with pytest.raises(NTalkerError, match="compares a, b, others ours, sadtalker, wav2lip"):
        other = record({"overall": "1"}, "b", comparison="d", candidates=["1", "2"])
        tally(write(tmp_path, record(), other), [key(tmp_path), others])
    with pytest.raises(NTalkerError, match="no answers"):
        tally([], [others])
    with pytest.raises(NTalkerError, match=r"answers-0\.json answers the comparison c, whose key is not here.*--key"):
        tally(write(tmp_path, record()), [others])
    with pytest.raises(NTalkerError, match=r"answers-0\.json names videos that are not in"):
        tally(write(tmp_path, record()), [key(tmp_path, "c", {"1": "a"})])
    with pytest.raises(NTalkerError, match=r"answers-0\.json holds no key"):
        tally([], write(tmp_path, record()))


def test_the_commands(videos: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, key_file = tmp_path / "page.html", tmp_path / "page.key.json"
    paths = [str(path) for path in videos.values()]
    assert command(["compare", *paths, "--output", str(page)]) == 0
    content, names = held(page.read_text("utf8")), json.loads(key_file.read_text("utf8"))["candidates"]
    ids = {name: code for code, name in names.items()}
    told = {"comparison": content["id"], "candidates": list(names)}
    answers = [record({"lip_sync": ids[name], "overall": ids[name]}, name, **told) for name in ("ours", "wav2lip")]
    assert command(["tally", *map(str, write(tmp_path, *answers)), "--key", str(key_file)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "50.00% (1), 9 to 91%" in output and "2 viewings" in output and "identity" not in output
    assert command(["compare", paths[0], str(tmp_path / "none.mp4")]) == 1
    assert "no video at" in capsys.readouterr().err
    assert command(["compare", paths[0], paths[0]]) == 1
    assert "twice" in capsys.readouterr().err
    for place, sentence in ((paths[0], "would replace"), (f"{paths[0]}/page.html", "Not a directory")):
        assert command(["compare", *paths, "--output", place]) == 1
        assert sentence in capsys.readouterr().err
