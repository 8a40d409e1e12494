"""Experiments: files are checked, runs are trained once, rows stand beside the paper's."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from support.frames import no_faces
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import TINY_EDIT, tiny_edit
from support.tiny_run import tiny_config

from ntalker_ns import runs
from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.cli.main import run as command
from ntalker_ns.editing.editors import editor_config
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.options import MetricOptions
from ntalker_ns.experiments import training
from ntalker_ns.experiments.rows import compared, evaluate_rows, table
from ntalker_ns.experiments.tables import RowPlan, RunPlan, experiments_folder, load_experiment
from ntalker_ns.experiments.training import train_or_reuse
from ntalker_ns.media.pixels import to_uint8
from ntalker_ns.media.sound import write_wav

CONTENT: dict[str, Any] = {
    "title": "A table",
    "columns": ["psnr", "warping_error", "training_time"],
    "base": "base",
    "runs": {
        "base": {"method": "ntalker-base"},
        "short": {"method": "ntalker-base", "fields": {"max_num_iterations": 3}},
    },
    "rows": {
        "ours": {"title": "Ours", "run": "short", "paper": {"psnr": 30.5, "training_time": "1 h"}},
        "theirs": {"title": "Theirs", "paper": {"psnr": 20.5}},
    },
    "scales": {
        "paper": {},
        "small": {
            "methods": {"ntalker-base": "ntalker-base-small"},
            "fields": {"ntalker-base": {"max_num_iterations": 4, "steps_per_save": 1}},
        },
    },
}


EDITED = {
    "runs": {
        "base": {"method": "ntalker-base"},
        "old": {"method": "ntalker-edit", "edits": "base"},
    },
    "rows": {"ours": {"title": "Ours", "run": "old", "paper": {}}},
    "preset": "bronze-statue",
}
"""An experiment with an edit."""


def weighed(fields: dict[str, Any]) -> dict[str, Any]:
    """A row of the base with something more."""
    return {"rows": {"a": {"title": "A", "run": "base", "paper": {}, **fields}}}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return path


@pytest.fixture(autouse=True)
def tiny_methods(monkeypatch: pytest.MonkeyPatch):
    """The methods are tiny ones, and nothing is asked of the network."""

    def method_config(method: str, **fields: Any) -> Any:
        config = tiny_edit(Path()) if "edit" in method else tiny_config(Path(), Path())
        return dataclasses.replace(config, method_name=method, **fields)

    monkeypatch.setattr(runs, "method_config", method_config)
    monkeypatch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "ball", 33, channels=CHANNELS)


@pytest.mark.parametrize("path", sorted(experiments_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_experiments_of_the_package_can_be_planned(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    experiment = load_experiment(path.stem)
    assert set(experiment.scales) == {"paper", "small"}
    for scale in experiment.scales:
        for name, plan in experiment.runs.items():
            planned = experiment.planned(name, scale)
            edited = None if plan.edits is None else training.TrainedRun(Path("base/config.yml"), None, "x")
            config = training.planned_config(planned, Path("data"), Path("outputs"), edited)
            assert config.method_name == planned.method
            assert planned.method.endswith("-small") == (scale == "small")
        training.check_runs(experiment, scale)


def test_the_papers_tables_are_there():
    assert {path.stem for path in experiments_folder().glob("*.yaml")} >= {"table1", "table3", "table4"}
    values = {name: row.paper for name, row in load_experiment("table3").rows.items()}
    assert values["iterative"]["clip_direction"] == 0.0175
    assert values["one-time"]["sync_confidence"] == 4.36
    assert values["progressive"]["warping_error"] == "0.0044 (other flow)"
    table4 = load_experiment("table4").rows
    assert table4["refined-0.4"].refinement_weight == 0.4
    assert table4["refined-0.4"].run == table4["refined-0.8"].run
    assert list(load_experiment("table1").rows) == [
        *("wav2lip", "makeittalk", "sadtalker", "ip2p", "ip2p-deflicker", "ours"),
    ]


def test_small_tables_share_the_runs_that_are_the_same():
    planned = [("table1", "edit"), ("table3", "progressive"), ("table4", "refined")]
    first, *others = (load_experiment(name).planned(run, "small") for name, run in planned)
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colums": []}, "has 'colums', which it cannot have"),
        ({"base": "other"}, "base: there is no run 'other' among base, short"),
        ({"columns": ["psnr", "speed"]}, "columns: there is no metric 'speed'"),
        ({"rows": {"a": {"title": "A", "paper": {"psmr": 1}}}}, "rows: a: paper: there is no metric 'psmr'"),
        ({"rows": {"a": {"title": "A"}}}, "rows: a lacks something"),
        ({"rows": ["a"]}, "rows must be names"),
        ({"runs": {"base": {"method": "m", "edits": "x"}}}, "there is no run"),
        ({"title": 3}, "title cannot be 3: give text"),
        ({"columns": "psnr"}, "columns cannot be 'psnr': give a list of text"),
        (weighed({"per_frame": "no"}), "rows: a: per_frame cannot be 'no': give true or false"),
        (weighed({"per_frame": True}), "rows: a: per_frame needs the run of an edit"),
        (weighed({"refinement_weight": "0.4"}), "rows: a: refinement_weight cannot be '0.4': give a number or nothing"),
        (
            weighed({"refinement_weight": 0.4}),
            "rows: a: refinement_weight is .* for the run of an edit, not 0.4 for base",
        ),
    ],
)
def test_what_a_file_gets_wrong_is_named(changes: dict[str, Any], sentence: str, tmp_path: Path):
    with pytest.raises(NTalkerError, match=sentence):
        load_experiment(str(write(tmp_path, **changes)))


def test_unknown_experiments_scales_methods_and_editors_are_named(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"no experiment 'table9': choose from .*table3"):
        load_experiment("table9")
    with pytest.raises(NTalkerError, match=r"\.py must be a YAML file"):
        load_experiment(__file__)
    experiment = load_experiment(str(write(tmp_path)))
    with pytest.raises(NTalkerError, match="no scale 'large': choose from"):
        experiment.planned("base", "large")
    with pytest.raises(NTalkerError, match="no editor 'magic'"):
        editor_config("magic")


def test_a_runs_own_fields_go_before_the_scales(tmp_path: Path):
    experiment = load_experiment(str(write(tmp_path)))
    planned = experiment.planned("short", "small")
    assert planned.method == "ntalker-base-small"
    assert planned.fields == {"max_num_iterations": 3, "steps_per_save": 1}
    assert experiment.planned("short", "paper").method == "ntalker-base"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"edit.strategy": "progresive"},
            "'edit.strategy' cannot be 'progresive': give progressive, one-time, iterative",
        ),
        ({"edit.noise": "frames"}, "'edit.noise' cannot be 'frames': give run, frame"),
        ({"edit_region": "heads"}, "'edit_region' cannot be 'heads': give head, portrait, frame"),
        ({"edit.epochs": "9"}, "'edit.epochs' cannot be '9': give a whole number"),
        ({"edit.updates": 0}, "--edit.updates must be at least 1"),
        ({"edit.epoch": 9}, "there is no field 'epoch'"),
        ({"preset": "old-mann"}, "no preset 'old-mann': choose from"),
        ({"instruction": "Make him tall"}, "Make him tall"),
    ],
)
def test_what_a_run_gets_wrong_is_said_before_any_is_trained(
    fields: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "prepare", lambda config: pytest.fail("began to train"))
    changes = {**EDITED, "runs": {**EDITED["runs"], "old": {**EDITED["runs"]["old"], "fields": fields}}}
    experiment = load_experiment(str(write(tmp_path, **changes)))
    with pytest.raises(NTalkerError, match=f"mine.yaml: runs: old: .*{sentence}"):
        train_or_reuse(experiment, "small", tmp_path, tmp_path / "outputs")


def test_a_run_that_is_there_is_not_trained_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiment = load_experiment(str(write(tmp_path)))
    first = train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    assert {name: run.config.is_file() for name, run in first.items()} == {"base": True, "short": True}
    assert all(run.seconds is not None and run.seconds > 0 for run in first.values())
    assert first["base"].config != first["short"].config
    monkeypatch.setattr(runs, "train_prepared", lambda config: pytest.fail("trained again"))
    second = train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    assert {name: run.config for name, run in second.items()} == {name: run.config for name, run in first.items()}
    assert second["base"].seconds == pytest.approx(first["base"].seconds, abs=1.0)
    given = train_or_reuse(experiment, "small", data, tmp_path / "outputs", base=first["short"].config)
    assert given["base"].config == first["short"].config


def test_a_run_is_reused_only_while_all_that_made_it_is_the_same(data: Path, tmp_path: Path):
    clip = shutil.copytree(data, tmp_path / "clip")
    head = tmp_path / "anna" / "base" / "1"
    checkpoint = head / "nerfstudio_models" / "step-000000007.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"one")
    (head / "config.yml").write_text(yaml.dump(tiny_config(data, tmp_path)))
    preset = tmp_path / "old.yaml"
    words = {"instruction": "Make him old", "caption_before": "a man", "caption_after": "an old man"}
    preset.write_text(yaml.safe_dump(words))
    base = training.TrainedRun(head / "config.yml", None, "x")
    plan = RunPlan("ntalker-edit", "base", {"preset": str(preset)})

    def fingerprint() -> str:
        return training.fingerprint_of(plan, clip, base, str(preset))

    made = fingerprint()
    assert fingerprint() == made
    seen = {made}
    for path, content in [
        (preset, yaml.safe_dump({**words, "caption_after": "a very old man"}).encode()),
        (preset, yaml.safe_dump({**words, "steps": [3, 4]}).encode()),
        (clip / "transforms.json", (clip / "transforms.json").read_bytes() + b" "),
        (checkpoint, b"other"),
        (checkpoint.with_name("step-000000009.ckpt"), b"other"),
    ]:
        path.write_bytes(content)
        seen.add(fingerprint())
    os.utime(checkpoint.with_name("step-000000009.ckpt"), ns=(1, 1))
    assert len({*seen, fingerprint()}) == 7


def test_a_run_that_was_broken_off_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiment = load_experiment(str(write(tmp_path)))
    whole = runs.train_prepared

    def broken(config: Any) -> Path:
        config.max_num_iterations = 2
        whole(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train_prepared", broken)
    with pytest.raises(KeyboardInterrupt):
        train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    resumed = []

    def watched(config: Any) -> Path:
        resumed.append(config.load_checkpoint)
        return whole(config)

    monkeypatch.setattr(runs, "train_prepared", watched)
    train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    assert resumed[0] is not None and resumed[0].name == "step-000000001.ckpt"


def test_rows_stand_beside_the_papers(data: Path, tmp_path: Path):
    experiment = load_experiment(str(write(tmp_path)))
    made = train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    evaluation = evaluate_rows(experiment, made, {}, MetricOptions(), tmp_path / "videos")
    assert [row.take.name for row in evaluation.rows] == ["true", "original", "ours"]
    rows = compared(experiment, made, evaluation)
    assert rows["ours"]["paper"] == {"psnr": 30.5, "warping_error": None, "training_time": "1 h"}
    assert rows["ours"]["ours"]["warping_error"] == evaluation.row("ours").scores.values["warping_error"]
    assert rows["ours"]["ours"]["training_time"] == made["short"].seconds
    assert rows["theirs"]["ours"] == dict.fromkeys(experiment.columns)
    shown = table(experiment, rows, "A table")
    assert shown.row_count == 2
    assert [column.header for column in shown.columns][2:] == ["↑ PSNR", "↓ Warping error E_w", "training"]


def test_rows_can_be_compared_on_new_speech(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ntalker_ns.evaluation.footage.face_points", no_faces)
    experiment, audio = load_experiment(str(write(tmp_path))), tmp_path / "new.wav"
    write_wav(audio, (0.3 * np.sin(np.arange(4 * 640) / 5.0)).astype(np.float32))
    made = train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    evaluation = evaluate_rows(experiment, made, {}, MetricOptions(), tmp_path / "videos", audio)
    assert len(evaluation.reference) == 4
    assert evaluation.row("original").scores.values["psnr"] == 100.0
    assert compared(experiment, made, evaluation)["ours"]["ours"]["warping_error"] is not None
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["original.mp4", "ours.mp4"]


def test_frames_edited_one_by_one_are_scored_as_exactly_as_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    noise = np.random.default_rng(0)

    def edits(pipeline: Any, reference: Any, config: Any) -> Any:
        assert config.max_num_iterations == 3
        return (noise.random((*reference.frames.shape,), np.float32) for _ in range(len(reference)))

    monkeypatch.setattr("ntalker_ns.experiments.rows.per_frame_edits", edits)
    row = RowPlan("Ip2p", {}, "short", per_frame=True)
    experiment = dataclasses.replace(load_experiment(str(write(tmp_path))), rows={"one-by-one": row})
    made = train_or_reuse(experiment, "small", data, tmp_path / "outputs")
    evaluation = evaluate_rows(experiment, made, {}, MetricOptions(), tmp_path / "videos")
    take = evaluation.row("one-by-one").take
    noise = np.random.default_rng(0)
    for frame in take.frames:
        np.testing.assert_array_equal(frame, to_uint8(noise.random(take.frames.shape, np.float32)))
    assert (tmp_path / "videos" / "one-by-one.mp4").is_file()


def test_the_command_trains_measures_and_takes_videos(data: Path, tmp_path: Path, capsys: Any):
    experiment, outputs = write(tmp_path), tmp_path / "outputs"
    arguments = ["experiment", str(experiment), "--data", str(data), "--output-dir", str(outputs)]
    assert command(arguments) == 0
    folder = outputs / "experiments" / "mine-small"
    assert {"report.json", "report.html", "table.json", "videos"} == {path.name for path in folder.iterdir()}
    video = folder / "videos" / "ours.mp4"
    assert command([*arguments, "--video", f"theirs={video}"]) == 0
    output = capsys.readouterr().out
    assert "is there." in output and "30.5" in output and "Theirs" in output
    assert command([*arguments, "--video", "nobody=x.mp4"]) == 1
    assert "--video nobody=x.mp4 must be ROW=PATH" in capsys.readouterr().err


@pytest.mark.slow
def test_the_papers_tables_can_be_made(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # No face is on the tiny clip, and to look for one takes longer than all the rest.
    monkeypatch.setattr("ntalker_ns.evaluation.footage.face_points", no_faces)
    made = {name: tiny_table(name, data, tmp_path) for name in ("table1", "table3", "table4")}
    assert len(list(tmp_path.glob("outputs/*/*/*/config.yml"))) == 1 + 5
    for rows in made.values():
        for name, row in rows.items():
            given = row["ours"]["warping_error"] is not None
            assert given == (name not in ("wav2lip", "makeittalk", "sadtalker", "ip2p-deflicker")), name
    times = {name: row["ours"]["training_time"] for name, row in (made["table3"] | made["table4"]).items()}
    assert all(seconds > 0 for seconds in times.values())
    assert times["refined-0.4"] == times["refined-0.8"] == times["progressive"]
    weights = [made["table4"][name]["ours"]["warping_error"] for name in ("refined-0.4", "refined-0.8")]
    assert weights[0] != weights[1]
    # Each frame is distorted for itself, which no field can follow.
    errors = {name: row["ours"]["warping_error"] for name, row in made["table1"].items()}
    assert errors["ip2p"] > errors["ours"]


def tiny_table(name: str, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """A table of the package on the tiny clip."""
    experiment = load_experiment(name)
    small = experiment.scales["small"]
    tiny = {f"edit.{key}": value for key, value in TINY_EDIT.items()}
    fields = {"ntalker-base": {"max_num_iterations": 60}, "ntalker-edit": {**small.fields["ntalker-edit"], **tiny}}
    experiment = dataclasses.replace(experiment, scales={"small": dataclasses.replace(small, fields=fields)})
    made = train_or_reuse(experiment, "small", data, folder / "outputs")
    evaluation = evaluate_rows(experiment, made, {}, MetricOptions(), folder / name)
    return compared(experiment, made, evaluation)


def test_titles_with_brackets_are_shown_as_they_are(capsys: Any):
    values = {"psnr": None, "warping_error": None, "training_time": None}
    rows = {
        "a": {"title": "Ours [/b]", "ours": values, "paper": {**values, "psnr": "[1]"}, "intervals": {}, "differs": []}
    }
    experiment = dataclasses.replace(load_experiment("table3"), columns=tuple(values))
    Console(width=200).print(table(experiment, rows, "A [red]table"))
    output = capsys.readouterr().out
    assert all(text in output for text in ("Ours [/b]", "A [red]table", "[1]"))
