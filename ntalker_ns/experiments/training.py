"""Runs of experiments: trained once, reused, and resumed after an interruption."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ntalker_ns import runs
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.report.write import write_text
from ntalker_ns.experiments.tables import Experiment, RunPlan

MARK = "experiment.json"
"""File in a run folder that records the fingerprint of what it was trained from."""


@dataclass(frozen=True)
class TrainedRun:
    """A trained run."""

    config: Path
    """Its config.yml."""
    seconds: float | None
    """How long training took; None where it was not trained by an experiment."""
    fingerprint: str
    """Hash of everything that determines the result."""


def train_or_reuse(
    experiment: Experiment, scale: str, data: Path, output_dir: Path, base: Path | None = None
) -> dict[str, TrainedRun]:
    """All runs of an experiment.

    Args:
        experiment: what to train.
        scale: at which size.
        data: the data set.
        output_dir: where runs are and go.
        base: the config.yml of a run to take as the experiment's base instead of training one.

    Returns:
        By the experiment's names.

    Raises:
        NTalkerError: a run cannot be trained; what its configuration gets wrong is said before any is.
    """
    check_runs(experiment, scale)
    trained: dict[str, TrainedRun] = {}

    def need(name: str) -> TrainedRun:
        if name not in trained:
            plan = experiment.planned(name, scale)
            if name == experiment.base and base is not None:
                trained[name] = TrainedRun(base, None, _digest({"config": str(base.resolve())}))
            else:
                edited = None if plan.edits is None else need(plan.edits)
                trained[name] = _train_once(name, plan, data, output_dir, edited)
        return trained[name]

    for name in experiment.runs:
        need(name)
    return trained


def check_runs(experiment: Experiment, scale: str) -> None:
    """Checks the configurations of all runs.

    Raises:
        NTalkerError: a method, field, value, preset or instruction cannot be; it names file and run.
    """
    for name in experiment.runs:
        plan = experiment.planned(name, scale)
        try:
            config = planned_config(plan, Path(), Path(), None)
            if plan.edits is not None:
                _check_edit(config)
        except NTalkerError as error:
            raise NTalkerError(f"{experiment.file}: runs: {name}: {error}") from error


def _check_edit(config: Any) -> None:
    """Checks of an edit that do not need its base."""
    from ntalker_ns.editing.plan import make_plan
    from ntalker_ns.editing.presets import load_preset

    preset = None if config.preset is None else load_preset(config.preset)
    make_plan(config.edit, preset and preset.guidance, preset and preset.steps)
    config.editor.check(config.instruction or (preset.instruction if preset else ""))


def _train_once(name: str, plan: RunPlan, data: Path, output_dir: Path, edited: TrainedRun | None) -> TrainedRun:
    config = planned_config(plan, data, output_dir, edited)
    fingerprint = fingerprint_of(plan, data, edited, getattr(config, "preset", None))
    found = _find(output_dir, fingerprint)
    seconds = 0.0
    if found is not None:
        seconds = json.loads((found / MARK).read_text("utf8"))["seconds"]
        if _complete(found):
            print(f"{name}: {found} is there.")
            return TrainedRun(found / "config.yml", seconds, fingerprint)
        if any((found / "nerfstudio_models").glob("*.ckpt")):
            config.load_dir = found / "nerfstudio_models"
    print(f"{name}: {'going on with' if config.load_dir else 'training'} {plan.method}.")
    start = time.perf_counter()
    runs.prepare(config)
    folder = config.get_base_dir()

    def mark() -> None:
        spent = seconds + time.perf_counter() - start
        write_text(folder / MARK, json.dumps({"fingerprint": fingerprint, "seconds": spent, "run": name}))

    mark()
    try:
        runs.train_prepared(config)
    finally:
        # A start that failed takes its folder away again.
        if folder.is_dir():
            mark()
    return TrainedRun(folder / "config.yml", seconds + time.perf_counter() - start, fingerprint)


def fingerprint_of(plan: RunPlan, data: Path, edited: TrainedRun | None, preset: str | None) -> str:
    """Of all that a run is made from, by content where a name may come to mean something else.

    Args:
        plan: the run.
        data: the data set.
        edited: the run that it edits, if it is an edit.
        preset: the name or file of its instruction, if it has one.

    Raises:
        NTalkerError: the preset cannot be used, or the edited run is gone.
    """
    from ntalker_ns.editing.presets import load_preset

    return _digest(
        {
            "method": plan.method,
            "fields": plan.fields,
            "data": str(data.resolve()),
            "clip": _clip_digests(data),
            "edits": None if edited is None else [edited.fingerprint, *_checkpoint_state(edited.config)],
            "preset": None if preset is None else asdict(load_preset(preset)),
        }
    )


def _clip_digests(data: Path) -> list[str]:
    """Of transforms.json, or of the two that RAD-NeRF's data sets have."""
    folder = data if data.is_dir() else data.parent
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("transforms*.json"))]


def _checkpoint_state(config: Path) -> tuple[str, int, int]:
    """Name, bytes and time of change of a run's newest checkpoint."""
    from ntalker_ns.run_folder import read_run

    checkpoint = read_run(config.parent).checkpoint
    state = checkpoint.stat()
    return checkpoint.name, state.st_size, state.st_mtime_ns


def planned_config(plan: RunPlan, data: Path, output_dir: Path, edited: TrainedRun | None) -> Any:
    """The configuration of a run.

    Args:
        plan: the run.
        data: the data set.
        output_dir: where the run goes.
        edited: the run that it edits, if it is an edit.

    Raises:
        NTalkerError: the method or a field is not known.
    """
    config = runs.configured(plan.method, plan.fields, output_dir=output_dir)
    if edited is None:
        config.data = data
    else:
        config.base = edited.config
        # What is measured on held-out frames must not have been edited.
        config.edit = replace(config.edit, hold_out=True)
    return config


def _find(output_dir: Path, fingerprint: str) -> Path | None:
    """The folder of the newest run that was trained for this, complete ones first."""
    folders = []
    for path in sorted(output_dir.glob(f"*/*/*/{MARK}")):
        try:
            if json.loads(path.read_text("utf8"))["fingerprint"] == fingerprint:
                folders.append(path.parent)
        except (OSError, ValueError, KeyError):
            continue
    return max(folders, key=lambda folder: (_complete(folder), folder.name), default=None)


def _complete(folder: Path) -> bool:
    from ntalker_ns.run_folder import read_run

    try:
        return read_run(folder).complete
    except NTalkerError:
        return False


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
