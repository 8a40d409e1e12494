"""The whole evaluation: a clip against itself, a delayed one, a run as ns-eval sees it, reports that can be read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import DemoClip
from rich.console import Console
from support.frames import no_faces
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import tiny_edit
from support.tiny_run import tiny_config

from ntalker_ns import runs
from ntalker_ns.cli.evaluate import entries_of, named_entries
from ntalker_ns.cli.main import run as command
from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.baselines import mean_pictures, nearest_pictures
from ntalker_ns.evaluation.entries import Entry, captions_of
from ntalker_ns.evaluation.evaluate import Evaluation, evaluate
from ntalker_ns.evaluation.footage import ENCODED, SAMPLES_PER_FRAME, Reference, Take, write_pictures
from ntalker_ns.evaluation.metrics.catalogue import METRICS, PSNR
from ntalker_ns.evaluation.metrics.clip_direction import Clip
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions
from ntalker_ns.evaluation.report.write import notes, page, print_remarks, table, unavailable, write_report

FRAMES, HELD_OUT = 66, 6
CLIP_FRAMES = 36
DELAY = 3


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)
        yield


@pytest.fixture(scope="module")
def clip(demo_clip: DemoClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the made-up clip."""
    return shorter(demo_clip, tmp_path_factory.mktemp("videos") / "clip.mp4", list(range(CLIP_FRAMES)))


@pytest.fixture(scope="module")
def delayed(demo_clip: DemoClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same part with its pictures late against its sound."""
    frames = [0] * DELAY + list(range(CLIP_FRAMES - DELAY))
    return shorter(demo_clip, tmp_path_factory.mktemp("videos") / "delayed.mp4", frames)


def shorter(whole: DemoClip, path: Path, frames: list[int]) -> Path:
    """Some frames of a clip, and its sound from the start."""
    from ntalker_ns.media.sound import read_audio
    from ntalker_ns.media.video_reader import read_frames

    pictures = list(read_frames(whole.path))
    sound = read_audio(whole.path)[: len(frames) * SAMPLES_PER_FRAME]
    write_pictures(path, [pictures[frame] for frame in frames], sound)
    return path


@pytest.fixture(scope="module")
def of_videos(clip: Path, delayed: Path) -> Evaluation:
    """The made-up clip and the delayed one against the made-up clip."""
    entries = [Entry("itself", clip), Entry("delayed", delayed)]
    return evaluate(entries, MetricOptions(), reference=clip)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on the ball, which has no face."""
    folder = tmp_path_factory.mktemp("run")
    data = write_tiny_clip(folder / "ball", FRAMES)
    return runs.train_config(tiny_config(data, folder / "outputs"))


@pytest.fixture(scope="module")
def of_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    """The run with the baselines, and the folder of the videos."""
    videos = tmp_path_factory.mktemp("evaluation") / "videos"
    with pytest.MonkeyPatch.context() as patch:
        # Whether a detector takes a ball for a face is not what is tested here.
        patch.setattr("ntalker_ns.evaluation.footage.face_points", no_faces)
        return evaluate([Entry("ours", run)], MetricOptions(), baselines=True, videos=videos), videos


def test_a_clip_against_itself_is_perfect(of_videos: Evaluation):
    values = of_videos.row("itself").scores.values
    assert values["psnr"] == values["psnr_face"] == values["psnr_lips"] == 100.0
    assert values["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert values["lip_distance"] == pytest.approx(0.0, abs=1e-9)
    assert values["opening_correlation"] == pytest.approx(1.0)
    assert values["opening_amplitude"] == pytest.approx(1.0)
    assert values["opening_lag"] == 0
    assert values["faces"] == 100.0
    true = of_videos.row("true").scores.values
    for name in ("head_jitter", "warping_error"):
        assert values[name] == pytest.approx(true[name], rel=1e-6)


def test_a_delay_is_found_to_the_frame(of_videos: Evaluation):
    values = of_videos.row("delayed").scores.values
    assert values["opening_lag"] == DELAY
    assert values["psnr_face"] < 40
    assert values["lip_distance"] > 0.3


def test_every_metric_is_measured_or_has_a_reason(of_videos: Evaluation, of_run: tuple[Evaluation, Path]):
    for evaluation in (of_videos, of_run[0]):
        for row in evaluation.rows[1:]:
            values, reasons = set(row.scores.values), set(row.scores.unavailable)
            assert values.isdisjoint(reasons)
            assert values | reasons == {metric.key for metric in METRICS}


def test_what_needs_weights_says_so(of_videos: Evaluation):
    reasons = of_videos.row("itself").scores.unavailable
    assert "--syncnet" in reasons["sync_confidence"]
    assert "--arcface" in reasons["identity_cosine"]
    assert "--captions" in reasons["clip_direction"]
    assert "AlexNet" in reasons["lpips"]
    assert "labels" in reasons["psnr_head"]
    assert "not rendered here" in reasons["fps"]


def test_the_run_has_ns_evals_numbers(run: Path, of_run: tuple[Evaluation, Path], tmp_path: Path):
    from nerfstudio.scripts.eval import ComputePSNR

    ComputePSNR(run, tmp_path / "eval.json").main()
    theirs = json.loads((tmp_path / "eval.json").read_text())["results"]
    ours = of_run[0].row("ours").scores.values
    assert of_run[0].reference.indices.tolist() == list(range(FRAMES - HELD_OUT, FRAMES))
    names = {"psnr": "psnr", "psnr_head": "head_psnr", "psnr_face": "face_psnr", "psnr_lips": "lips_psnr"}
    for name, their_name in {**names, "ssim": "ssim"}.items():
        assert ours[name] == pytest.approx(theirs[their_name], abs=2e-4), name


def test_rendering_is_timed_and_weighed(of_run: tuple[Evaluation, Path]):
    row = of_run[0].row("ours")
    assert row.take.speed is not None
    assert len(row.take.speed.seconds) == HELD_OUT
    assert row.scores.values["fps"] == pytest.approx(5 / sum(row.take.speed.seconds[1:]))
    assert 0.1 < row.scores.values["peak_memory"] <= of_run[0].peak_gib + 0.5


def test_baselines_are_in_the_same_table_and_videos_of_them_can_be_looked_at(of_run: tuple[Evaluation, Path]):
    evaluation, videos = of_run
    assert [row.take.name for row in evaluation.rows] == ["true", "ours", "nearest", "mean"]
    assert sorted(path.name for path in videos.iterdir()) == ["mean.mp4", "nearest.mp4", "ours.mp4", "true.mp4"]


def test_baselines_are_scored_as_exactly_as_runs(run: Path, of_run: tuple[Evaluation, Path]):
    evaluation, truth = of_run[0], of_run[0].reference
    makers = {"nearest": nearest_pictures, "mean": mean_pictures}
    for name, maker in makers.items():
        row = evaluation.row(name)
        assert row.take.notes == ["torso and background are the true frames'"]
        assert is_true_around_the_head(row.take, truth)
        by_hand = [psnr(p, truth.frames[i] / 255.0) for i, p in enumerate(maker(runs.load_run(run), truth))]
        assert row.scores.values["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-3)


def test_an_odd_size_is_scored_without_a_column_more(run: Path, tmp_path: Path):
    frames = FrameOptions(image_size=27)
    evaluation = evaluate([Entry("ours", run)], MetricOptions(), frames=frames, baselines=True, videos=tmp_path)
    assert is_true_around_the_head(evaluation.row("mean").take, evaluation.reference)
    again = evaluate([Entry("ours", run), Entry("read", tmp_path / "ours.mp4")], MetricOptions(), frames=frames)
    exact, read = (again.row(name) for name in ("ours", "read"))
    assert not any("resized" in note for note in read.take.notes)
    # Encoding costs a few tenths of a dB at this size; a column more would cost several.
    assert read.scores.values["psnr"] == pytest.approx(exact.scores.values["psnr"], abs=0.5)


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """By hand."""
    return float(-10 * np.log10(np.square(picture.astype(np.float64) - truth).mean()))


def is_true_around_the_head(take: Take, truth: Reference) -> bool:
    """Whether a take's pictures are the true ones wherever there is no head."""
    rest = [~truth.masks(place)["head"] for place in range(len(truth))]
    return all(np.array_equal(take.frames[i][shown], truth.frames[i][shown]) for i, shown in enumerate(rest))


def test_size_and_surroundings_can_be_chosen(run: Path, of_run: tuple[Evaluation, Path]):
    usual = of_run[0]
    assert usual.reference.size == (40, 40)
    frames = FrameOptions(image_size=24, surroundings="clip")
    evaluation = evaluate([Entry("ours", run)], MetricOptions(), frames=frames)
    assert evaluation.reference.size == (24, 24)
    assert evaluation.row("ours").take.notes == ["torso and background are the true frames'"]
    assert evaluation.settings["image_size"] == 24
    # Where there is no head, a picture is then the true one, but for the edge that is taken for the head.
    ours, learned = (one.row("ours").scores.values for one in (evaluation, usual))
    assert ours["psnr"] > learned["psnr"] + 3
    assert ours["psnr_head"] == pytest.approx(learned["psnr_head"], abs=2)


def test_videos_written_by_a_run_are_evaluated_beside_it(of_run: tuple[Evaluation, Path], run: Path):
    evaluation = evaluate([Entry("ours", run), Entry("written", of_run[1] / "ours.mp4")], MetricOptions())
    exact, written = (evaluation.row(name).scores.values for name in ("ours", "written"))
    assert written["psnr"] == pytest.approx(exact["psnr"], abs=0.2)
    assert evaluation.row("written").take.notes[0] == ENCODED
    assert evaluation.row("ours").take.notes == []


def test_edits_are_measured_from_the_base(clip: Path, delayed: Path):
    evaluation = evaluate([Entry("edit", delayed)], MetricOptions(), reference=clip, base=Entry("base", clip))
    assert evaluation.before == "base"
    assert evaluation.row("base").scores.values["psnr"] == 100.0
    reasons = evaluation.row("edit").scores.unavailable
    assert reasons["psnr"] == reasons["ssim"] == "an edit is meant to differ from the true frames"
    assert evaluation.row("edit").scores.values["opening_lag"] == DELAY


def test_parts_that_do_not_belong_together_are_refused(run: Path, clip: Path):
    with pytest.raises(NTalkerError, match="leave --reference out"):
        evaluate([Entry("ours", run)], MetricOptions(), reference=clip)
    with pytest.raises(NTalkerError, match="give --reference"):
        evaluate([Entry("video", clip)], MetricOptions())
    with pytest.raises(NTalkerError, match="Two rows of the report would be called 'a'"):
        evaluate([Entry("a", run), Entry("a", clip)], MetricOptions())
    with pytest.raises(NTalkerError, match="give --load-config"):
        evaluate([Entry("a", clip)], MetricOptions(), reference=clip, baselines=True)


def test_only_the_metrics_that_are_asked_for_are_taken(clip: Path):
    evaluation = evaluate([Entry("itself", clip)], MetricOptions(), reference=clip, metrics=PSNR)
    scores = evaluation.row("itself").scores
    assert set(scores.values) == {"psnr", "psnr_face", "psnr_lips"}
    assert set(scores.unavailable) == {"psnr_head"}
    assert evaluation.row("true").scores.values == {}


def test_the_json_has_numbers_settings_versions_and_reasons(of_run: tuple[Evaluation, Path], tmp_path: Path):
    write_report(tmp_path, of_run[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    report = json.loads((tmp_path / "report.json").read_text("utf8"))
    assert report["frames"]["first"] == FRAMES - HELD_OUT
    assert report["frames"]["count"] == HELD_OUT
    take = report["takes"]["ours"]
    assert take["values"]["psnr"] == of_run[0].row("ours").scores.values["psnr"]
    assert len(take["series"]["psnr_head"]) == HELD_OUT
    assert take["series"]["opening"] == [None] * HELD_OUT
    assert "--syncnet" in take["unavailable"]["sync_confidence"]
    assert report["settings"]["flow"] == "dis"
    assert {"python", "torch", "ntalker_ns", "device"} <= set(report["versions"])
    assert report["seconds"] > 0


def test_the_page_needs_no_other_file(of_videos: Evaluation):
    text = page(of_videos)
    assert text.count("<img") == text.count('<img src="data:image/jpeg;base64,') >= 3
    for outside in ("http://", "https://", "<script", "<link", "url("):
        assert outside not in text
    assert "Mouth opening" in text and "<svg" in text
    assert "syncnet_v2.model" in text


def test_the_table_has_a_column_for_each_take(of_run: tuple[Evaluation, Path]):
    shown = table(of_run[0])
    assert [column.header for column in shown.columns] == ["", "unit", "better", "true", "ours", "nearest", "mean"]
    assert any("Lip landmarks" in sentence and sentence.endswith(".") for sentence in unavailable(of_run[0]))


def test_names_with_brackets_are_shown_as_they_are(of_videos: Evaluation, capsys: pytest.CaptureFixture[str]):
    named = {"itself": "a[final]", "delayed": "[/b]"}
    rows = [
        dataclasses.replace(row, take=dataclasses.replace(row.take, name=named.get(row.take.name, row.take.name)))
        for row in of_videos.rows
    ]
    reference = dataclasses.replace(of_videos.reference, name="[red]clip[/red].mp4")
    evaluation = dataclasses.replace(of_videos, rows=rows, reference=reference)
    Console(width=200).print(table(evaluation))
    print_remarks(evaluation)
    assert list(track([1], "Faces of [/b]")) == [1]
    output = capsys.readouterr().out
    assert "[red]clip[/red].mp4" in output
    assert output.count("a[final]") >= 2 and output.count("[/b]") >= 2


def test_the_command_writes_a_report(clip: Path, delayed: Path, tmp_path: Path, capsys: Any):
    arguments = ["--video", str(delayed), "--reference", str(clip), "--output-dir", str(tmp_path / "out")]
    assert command(["evaluate", *arguments]) == 0
    output = capsys.readouterr().out
    assert "Not measured:" in output and "report.html" in output and "delayed" in output
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give --load-config"),
        (["--video", "none.mp4"], "no file at 'none.mp4'"),
        (["--load-config", __file__], "is no config.yml"),
        (["--video", __file__, "--output-dir", f"{__file__}/x"], "Not a directory); choose another --output-dir"),
    ],
)
def test_the_command_says_at_once_what_is_missing(arguments: list[str], sentence: str, capsys: Any):
    assert command(["evaluate", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_names_tell_runs_and_videos_apart():
    paths = ["o/anna/ntalker-base/1/config.yml", "o/anna/ntalker-base/2/config.yml", "o/anna/ntalker-edit/3/config.yml"]
    names = [entry.name for entry in named_entries([*map(Path, paths), Path("a/out.mp4"), Path("b/true.mp4")])]
    assert names == ["ntalker-base-1", "ntalker-base-2", "ntalker-edit", "out", "b-true"]


def untrained(folder: Path, config: Any) -> Path:
    """What names a run and says what it is an edit of: its configuration, and a checkpoint with nothing in it."""
    (folder / "nerfstudio_models").mkdir(parents=True)
    (folder / "nerfstudio_models" / "step-000000007.ckpt").touch()
    (folder / "config.yml").write_text(yaml.dump(config))
    return folder / "config.yml"


def edit_of(base: Path, folder: Path, **fields: Any) -> Path:
    """An edit that was never trained."""
    checkpoint = base.parent / "nerfstudio_models" / "step-000000007.ckpt"
    return untrained(folder, tiny_edit(folder, base=checkpoint, **fields))


@pytest.fixture
def heads(tmp_path: Path) -> dict[str, Path]:
    """Two untrained heads and edits of them."""
    heads = {name: tmp_path / "anna" / "base" / name for name in ("one", "other")}
    made = {name: untrained(folder, tiny_config(Path(), tmp_path)) for name, folder in heads.items()}
    of = {"old": "one", "young": "one", "bronze": "other"}
    return made | {name: edit_of(made[base], tmp_path / "anna" / "edit" / name) for name, base in of.items()}


@pytest.mark.parametrize("order", [["old"], ["old", "one"], ["one", "old"], ["young", "one", "old"]], ids=str)
def test_edits_are_measured_from_their_own_base_in_whatever_order(order: list[str], heads: dict[str, Path]):
    base, entries = entries_of(tuple(heads[name] for name in order), (), None)
    assert base is not None and base.path.resolve() == heads["one"]
    assert [entry.path for entry in entries] == [heads[name] for name in order if name != "one"]
    assert not any(entry.notes for entry in entries)


def test_the_base_that_is_given_is_scored_once(heads: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(heads["one"].parent)
    base, entries = entries_of((heads["bronze"], heads["one"]), (), Path("config.yml"))
    assert base is not None and base.path.resolve() == heads["one"]
    assert [entry.path for entry in entries] == [heads["bronze"]]


def test_edits_of_different_heads_are_refused(heads: dict[str, Path]):
    with pytest.raises(NTalkerError, match=r"young.* is an edit of .*one.*bronze.* of .*other.*give --base"):
        entries_of((heads["one"], heads["young"], heads["bronze"]), (), None)


def test_a_base_that_is_gone_is_said(heads: dict[str, Path], clip: Path):
    heads["one"].unlink()
    base, (edit, video) = entries_of((heads["old"],), (clip,), None)
    assert base is None and video.notes == ()
    assert "one/config.yml, is not there: it is measured from the true frames" in edit.notes[0]


def test_each_edit_is_measured_by_its_own_captions(
    clip: Path, heads: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = {"old": ("a man", "an old man"), "young": ("a man", "a young man")}
    edits = {name: edit_of(heads["one"], tmp_path / "told" / name, captions=told) for name, told in words.items()}
    assert {name: captions_of(Entry(name, path)) for name, path in edits.items()} == words
    assert captions_of(Entry("base", heads["one"])) is None
    seen = []

    def directions(clip: Any, before: Any, after: Any, captions: tuple[str, str]) -> np.ndarray:
        seen.append(captions)
        return np.zeros(sum(1 for _ in after))

    monkeypatch.setattr("ntalker_ns.evaluation.scores.clip_directions", directions)
    monkeypatch.setattr("ntalker_ns.evaluation.evaluate.load_clip", lambda model: Clip(None, None))
    entries = [Entry(name, clip, captions=told) for name, told in words.items()]
    evaluation = evaluate([*entries, Entry("untold", clip)], MetricOptions(), reference=clip)
    assert seen == list(words.values())
    assert "give --captions" in evaluation.row("untold").scores.unavailable["clip_direction"]
    assert evaluation.to_dict()["takes"]["young"]["captions"] == words["young"]
    seen.clear()
    evaluate(entries, MetricOptions(captions=("a", "b")), reference=clip)
    assert seen == [("a", "b")] * 2


def test_notes_are_said_in_the_terminal_and_on_the_page(of_videos: Evaluation, capsys: pytest.CaptureFixture[str]):
    assert notes(of_videos) == [f"itself, delayed: {ENCODED}."]
    print_remarks(of_videos)
    assert f"Note: itself, delayed: {ENCODED}" in " ".join(capsys.readouterr().out.split())
    assert f"<li>itself, delayed: {ENCODED}.</li>" in page(of_videos)
