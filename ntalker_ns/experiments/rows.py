"""Rows of an experiment: measured, and compared with the paper's."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ntalker_ns.evaluation.entries import Entry, captions_of, recorded_captions
from ntalker_ns.evaluation.evaluate import Evaluation, evaluate
from ntalker_ns.evaluation.footage import Exact, Reference
from ntalker_ns.evaluation.intervals import difference_interval, figure_interval
from ntalker_ns.evaluation.metrics.catalogue import BY_KEY
from ntalker_ns.evaluation.options import MetricOptions
from ntalker_ns.evaluation.report.write import ARROWS
from ntalker_ns.experiments.tables import TRAINING_TIME, Experiment, RowPlan
from ntalker_ns.experiments.training import TrainedRun
from ntalker_ns.run_folder import read_run
from ntalker_ns.runs import load_head

if TYPE_CHECKING:
    from rich.table import Table

NOT_GIVEN = "no video was given"


def evaluate_rows(
    experiment: Experiment,
    trained: Mapping[str, TrainedRun],
    videos: Mapping[str, Path],
    options: MetricOptions,
    folder: Path,
    audio: Path | None = None,
) -> Evaluation:
    """Measures every row that a run or a video is there for.

    Args:
        experiment: the table.
        trained: its runs.
        videos: of other systems, by row.
        options: of the metrics.
        folder: where videos of what is rendered go.
        audio: new speech to compare the heads on, with the base as the truth; None compares them on held-out frames.
    """
    base = Entry("original", trained[experiment.base].config)
    captions = {run: recorded_captions(trained[run].config) for run, plan in experiment.runs.items() if plan.edits}
    # Other systems follow the same instruction as the table's edits, where those follow a single one.
    common = next(iter(captions.values())) if len(set(captions.values())) == 1 else None
    entries = []
    for name, row in experiment.rows.items():
        if name in videos:
            entries.append(Entry(name, videos[name], captions=captions.get(row.run or "", common)))
        elif row.run is not None and row.per_frame:
            edit = read_run(trained[row.run].config.parent).config
            pictures = partial(per_frame_edits, config=edit)
            entries.append(Entry(name, base.path, pictures=pictures, captions=captions.get(row.run)))
        elif row.run is not None:
            entries.append(Entry(name, trained[row.run].config, row.refinement_weight))
    if audio is None:
        return evaluate(entries, options, base=base, videos=folder)
    spoken = [speaking(entry, audio, folder) for entry in (base, *entries) if entry.pictures is None]
    return evaluate(spoken[1:], options, base=spoken[0], reference=spoken[0].path)


def speaking(entry: Entry, audio: Path, folder: Path) -> Entry:
    """A run as a video of it saying something; a video as it is.

    Args:
        entry: a run or a video.
        audio: a sound or video file.
        folder: where the video goes.
    """
    if not entry.is_run:
        return entry
    video = folder / f"{entry.name}.mp4"
    load_head(entry.path).say(audio, refinement_weight=entry.refinement_weight).save(video)
    return replace(entry, path=video, captions=captions_of(entry), refinement_weight=None)


def per_frame_edits(pipeline: Any, reference: Reference, config: Any) -> Iterator[Exact]:
    """The base's pictures of the true frames, each edited by itself: the paper's "ip2p".

    Args:
        pipeline: the base's.
        reference: the true frames.
        config: an edit's configuration (`EditTrainerConfig`), whose editor, instruction and upper bounds are taken.

    Yields:
        RGB in [0, 1].
    """
    import torch

    from ntalker_ns.driving.cameras import sequence_cameras
    from ntalker_ns.evaluation.heldout import render

    plan, editor = config.plan(), config.editor.setup()
    strength = plan.schedule[-1]
    cameras = sequence_cameras(pipeline.model.driving, reference.indices, max(reference.size))
    for place, frame in enumerate(reference.indices):
        picture = torch.from_numpy(render(pipeline, cameras[place : place + 1], "learned")).permute(2, 0, 1)[None]
        edited = editor.edit(picture.to(pipeline.device), config.instruction, strength, plan.seeds((int(frame),)))
        yield edited[0].clamp(0.0, 1.0).permute(1, 2, 0).float().cpu().numpy()


def compared(
    experiment: Experiment, trained: Mapping[str, TrainedRun], evaluation: Evaluation
) -> dict[str, dict[str, Any]]:
    """The table as plain values.

    Returns:
        By row: its title, "ours" and "paper" by column (None where there is no number), why ours are missing,
        "intervals" of ours (95%, where they are figures of single frames), and "differs": the columns in which the
        row's difference from the last row has an interval without 0.
    """
    rows = {}
    for name, row in experiment.rows.items():
        ours = {column: _value(column, name, row, trained, evaluation) for column in experiment.columns}
        paper = {column: row.paper.get(column) for column in experiment.columns}
        rows[name] = {"title": row.title, "ours": ours, "paper": paper, "missing": _missing(name, evaluation)}
        rows[name] |= _certainty(experiment, name, evaluation)
    return rows


def _certainty(experiment: Experiment, name: str, evaluation: Evaluation) -> dict[str, Any]:
    """Intervals of a row's figures, and where it differs from the last row."""
    known, last = _names(evaluation), list(experiment.rows)[-1]
    intervals, differs = {}, []
    for column in experiment.columns if name in known else ():
        scores, true = evaluation.row(name).scores, evaluation.rows[0].scores
        found = figure_interval(column, scores, true)
        if found is not None and np.isfinite(found).all():
            intervals[column] = list(found)
        apart = difference_interval(column, scores, evaluation.row(last).scores, true) if last in known else None
        if name != last and apart is not None and (apart[0] > 0 or apart[1] < 0):
            differs.append(column)
    return {"intervals": intervals, "differs": differs}


def _names(evaluation: Evaluation) -> set[str]:
    return {row.take.name for row in evaluation.rows}


def _missing(name: str, evaluation: Evaluation) -> dict[str, str]:
    if name not in _names(evaluation):
        return dict.fromkeys(BY_KEY, NOT_GIVEN)
    return evaluation.row(name).scores.unavailable


def _value(
    column: str, name: str, row: RowPlan, trained: Mapping[str, TrainedRun], evaluation: Evaluation
) -> float | None:
    if name not in _names(evaluation):
        return None
    if column == TRAINING_TIME:
        return None if row.run is None or row.per_frame else trained[row.run].seconds
    value = evaluation.row(name).scores.values.get(column)
    return None if value is None or not np.isfinite(value) else value


def table(experiment: Experiment, rows: Mapping[str, Mapping[str, Any]], title: str) -> "Table":
    """The rows as a rich table: ours, with their intervals, above the paper's."""
    from rich.markup import escape
    from rich.table import Table

    last = list(experiment.rows.values())[-1].title
    caption = f"In brackets: 95% intervals (block bootstrap over frames). *: differs from '{last}', drawn in pairs."
    shown = Table(title=escape(title), show_lines=True, caption=escape(caption))
    shown.add_column("")
    shown.add_column("")
    for column in experiment.columns:
        heading = "training" if column == TRAINING_TIME else f"{ARROWS[BY_KEY[column].better]} {BY_KEY[column].title}"
        shown.add_column(heading.strip(), justify="right")
    for row in rows.values():
        cells = [escape(f"{_ours(column, row)}\n{row['paper'][column] or '-'}") for column in experiment.columns]
        shown.add_row(escape(row["title"]), "ours\npaper", *cells)
    return shown


def _ours(column: str, row: Mapping[str, Any]) -> str:
    """Our value, a star where it differs from the last row's, and its interval."""
    text = _text(column, row["ours"][column]) + ("*" if column in row["differs"] else "")
    if column not in row["intervals"]:
        return text
    low, high = (_text(column, value) for value in row["intervals"][column])
    return f"{text} ({low} to {high})"


def _text(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 60:.1f} min" if column == TRAINING_TIME else BY_KEY[column].text(value)
