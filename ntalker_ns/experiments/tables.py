"""The paper's tables as files: the runs to train, the rows to measure, and the paper's values."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.catalogue import BY_KEY
from ntalker_ns.training.overrides import fits, fitting, wanted

FOLDER = Path("configs") / "experiments"
"""Where the experiments lie, in the package and in the repository."""
TRAINING_TIME = "training_time"
"""A column beside the metrics."""
Plain = TypeVar("Plain")


@dataclass(frozen=True)
class RunPlan:
    """A run that rows are measured on."""

    method: str
    """Its registered name at the paper's scale."""
    edits: str | None = None
    """The run that it is an edit of; None for a run on the data set."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of its configuration by dotted path."""


@dataclass(frozen=True)
class RowPlan:
    """A row of the table."""

    title: str
    """As the paper has it."""
    paper: dict[str, float | str]
    """The paper's values by column."""
    run: str | None = None
    """The run that is measured; None where it is a video by another system, which is given on the command line."""
    refinement_weight: float | None = None
    """Weight of the refinement network in the pictures, 0 to 1; None is the run's own."""
    per_frame: bool = False
    """Measure the base's frames edited one by one by the run's editor at the upper bounds, unless a video is given."""


@dataclass(frozen=True)
class Scale:
    """A size that the whole experiment is run at."""

    methods: dict[str, str] = field(default_factory=dict)
    """Methods that take the place of others."""
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of the runs' configurations by dotted path, by method as the runs name it; those of a run go first."""


@dataclass(frozen=True)
class Experiment:
    """One table."""

    title: str
    columns: tuple[str, ...]
    """Metrics, and training_time."""
    base: str
    """The run that the others edit."""
    runs: dict[str, RunPlan]
    rows: dict[str, RowPlan]
    scales: dict[str, Scale]
    preset: str | None = None
    """The instruction of all edits (configs/instructions)."""
    file: Path = Path()
    """The file that it was read from."""

    def planned(self, run: str, scale: str) -> RunPlan:
        """A run as it is at a scale.

        Raises:
            NTalkerError: there is no such scale.
        """
        if scale not in self.scales:
            raise NTalkerError(f"There is no scale '{scale}': choose from {', '.join(self.scales)}.")
        plan, size = self.runs[run], self.scales[scale]
        preset = {} if plan.edits is None or self.preset is None else {"preset": self.preset}
        merged = {**preset, **size.fields.get(plan.method, {}), **plan.fields}
        return RunPlan(size.methods.get(plan.method, plan.method), plan.edits, merged)


def load_experiment(name: str) -> Experiment:
    """Reads an experiment.

    Args:
        name: such as "table3", or the path of a YAML file.

    Raises:
        NTalkerError: there is no such file, or it says something that cannot be.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        if path.suffix and path.is_file():
            raise NTalkerError(f"The experiment {path} must be a YAML file, whose name ends in .yaml.")
        path = experiments_folder() / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in experiments_folder().glob("*.yaml")))
            raise NTalkerError(f"There is no experiment '{name}': choose from {known}, or give a YAML file.")
    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NTalkerError(f"The experiment {path} cannot be read ({' '.join(str(error).split())}).") from error
    return _experiment_of(content, path)


def experiments_folder() -> Path:
    """Where the experiments that come with the package lie."""
    return Path(__file__).resolve().parents[1] / FOLDER


def _experiment_of(content: Any, path: Path) -> Experiment:
    given = _checked(Experiment, content, f"{path}")
    for name, kind in (("runs", RunPlan), ("rows", RowPlan), ("scales", Scale)):
        if name in given:
            given[name] = _each(kind, given[name], f"{path}: {name}")
    experiment = _made(Experiment, {**given, "file": path}, f"{path}")
    _check(experiment, path)
    _check_rows(experiment, path)
    return experiment


def _each(kind: type[Plain], content: Any, where: str) -> dict[str, Plain]:
    if not isinstance(content, Mapping):
        raise NTalkerError(f"{where} must be names with what belongs to each.")
    given = {str(name): _checked(kind, one, f"{where}: {name}") for name, one in content.items()}
    return {name: _made(kind, one, f"{where}: {name}") for name, one in given.items()}


def _checked(kind: type, content: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass that a mapping gives, by name."""
    known = {one.name for one in fields(kind) if one.name != "file"}
    if not isinstance(content, Mapping):
        raise NTalkerError(f"{where} must have {', '.join(sorted(known))}.")
    unknown = sorted(set(content) - known)
    if unknown:
        raise NTalkerError(f"{where} has '{unknown[0]}', which it cannot have; it can have {', '.join(sorted(known))}.")
    hints = typing.get_type_hints(kind)
    given = {name: fitting(value, hints[name]) for name, value in content.items()}
    for name, value in given.items():
        if not fits(value, hints[name]):
            raise NTalkerError(f"{where}: {name} cannot be {content[name]!r}: give {wanted(hints[name])}.")
    return given


def _made(kind: type[Plain], given: Mapping[str, Any], where: str) -> Plain:
    try:
        return kind(**given)
    except TypeError as error:
        raise NTalkerError(f"{where} lacks something ({error}).") from error


def _check(experiment: Experiment, path: Path) -> None:
    """Checks names that refer to runs and metrics."""
    runs, columns = set(experiment.runs), {*BY_KEY, TRAINING_TIME}
    named = {"base": experiment.base}
    named |= {f"rows: {name}: run": row.run for name, row in experiment.rows.items() if row.run is not None}
    named |= {f"runs: {name}: edits": run.edits for name, run in experiment.runs.items() if run.edits is not None}
    for where, run in named.items():
        if run not in runs:
            raise NTalkerError(f"{path}: {where}: there is no run '{run}' among {', '.join(sorted(runs))}.")
    for where, keys in [
        ("columns", experiment.columns),
        *((f"rows: {n}: paper", r.paper) for n, r in experiment.rows.items()),
    ]:
        wrong = [key for key in keys if key not in columns]
        if wrong:
            raise NTalkerError(f"{path}: {where}: there is no metric '{wrong[0]}' ({', '.join(sorted(columns))}).")


def _check_rows(experiment: Experiment, path: Path) -> None:
    """Checks fields that only rows of edits may have."""
    for name, row in experiment.rows.items():
        edit = row.run is not None and experiment.runs[row.run].edits is not None
        if row.refinement_weight is not None and not (edit and 0.0 <= row.refinement_weight <= 1.0):
            raise NTalkerError(
                f"{path}: rows: {name}: refinement_weight is a number from 0 to 1 for the run of an edit, not "
                f"{row.refinement_weight} for {row.run}."
            )
        if row.per_frame and not edit:
            raise NTalkerError(f"{path}: rows: {name}: per_frame needs the run of an edit, whose editor it takes.")
