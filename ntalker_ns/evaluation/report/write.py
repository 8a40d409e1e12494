"""A report in three forms: a table for the terminal, JSON, and an HTML page."""

import base64
import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from ntalker_ns.evaluation.evaluate import Evaluation, versions
from ntalker_ns.evaluation.metrics.catalogue import BY_KEY, METRICS, Metric
from ntalker_ns.evaluation.metrics.warping import optical_flow
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.evaluation.report import figures
from ntalker_ns.evaluation.report.charts import line_chart
from ntalker_ns.media.output_paths import written_whole

if TYPE_CHECKING:
    from rich.table import Table

ARROWS = {"higher": "↑", "lower": "↓", "one": "→ 1", "zero": "→ 0", "": ""}
CHARTS = (
    ("opening", "Mouth opening, fraction of the face's height", 3),
    ("psnr_head", "PSNR of the head, dB", 1),
    ("warping_error", "Warping error E_w", 3),
)
"""Series that are drawn, their titles, and digits on the axis."""
JPEG_QUALITY = 88
SCALE = f"Differences of RGB in [0, 1] from 0, black, to {figures.FULL_SCALE} and more, yellow."
STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: #1f2328; --back: #fff; --soft: #f3f4f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --back: #16181c; --soft: #23262c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
       max-width: 1120px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; white-space: pre; }
img { max-width: 100%; border-radius: 4px; }
svg { width: 100%; background: #fff; border-radius: 4px; font: 12px system-ui, sans-serif; fill: #374151; }
svg .grid { stroke: #e5e7eb; }
.scroll { overflow-x: auto; } .note { opacity: .75; }
details { margin: .5rem 0; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
"""


def table(evaluation: Evaluation) -> "Table":
    """The figures as a rich table: a row for each metric that any take has, a column for each take."""
    from rich.markup import escape
    from rich.table import Table

    width, height = evaluation.reference.size
    shown = Table(title=escape(f"{evaluation.reference.name}, {width}x{height} px"))
    shown.add_column("")
    shown.add_column("unit")
    shown.add_column("better")
    for row in evaluation.rows:
        shown.add_column(escape(row.take.name), justify="right")
    for metric in measured(evaluation):
        cells = [metric.text(row.scores.values.get(metric.key)) for row in evaluation.rows]
        shown.add_row(metric.title, metric.unit, ARROWS[metric.better], *cells)
    return shown


def measured(evaluation: Evaluation) -> list[Metric]:
    """The metrics that at least one take has a value of."""
    return [metric for metric in METRICS if any(metric.key in row.scores.values for row in evaluation.rows)]


def unavailable(evaluation: Evaluation) -> list[str]:
    """What was not measured and why, a sentence for each reason; takes are named where it is not all of them."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in evaluation.rows:
        for key, reason in row.scores.unavailable.items():
            missing.setdefault((key, reason), []).append(row.take.name)
    titles: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (key, reason), names in missing.items():
        titles.setdefault((reason, tuple(names)), []).append(BY_KEY[key].title.strip())
    judged = {row.take.name for row in evaluation.rows[1:]}
    return [
        f"{', '.join(group)}{'' if judged <= set(names) else ' of ' + ', '.join(names)}: {reason}."
        for (reason, names), group in titles.items()
    ]


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the figures must know, a sentence for each note with the takes that it is about."""
    takes: dict[str, list[str]] = {}
    for row in evaluation.rows:
        for note in row.take.notes:
            takes.setdefault(note, []).append(row.take.name)
    return [f"{', '.join(names)}: {note}." for note, names in takes.items()]


def print_remarks(evaluation: Evaluation) -> None:
    """Prints the notes, and what was not measured, below the table."""
    from rich.console import Console
    from rich.markup import escape

    for kind, sentences in (("Note", notes(evaluation)), ("Not measured", unavailable(evaluation))):
        for sentence in sentences:
            Console().print(f"[yellow]{kind}:[/yellow] {escape(sentence)}")


def write_report(folder: Path, evaluation: Evaluation) -> None:
    """Writes report.json and report.html, each whole or not at all.

    Args:
        folder: made if it is not there.
        evaluation: what to report.
    """
    write_text(folder / "report.json", evaluation.to_json())
    write_text(folder / "report.html", page(evaluation))


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with written_whole(path) as partial:
        partial.write_text(text, "utf8")


def page(evaluation: Evaluation) -> str:
    """The report as one HTML page that needs no other file."""
    names = ", ".join(row.take.name for row in evaluation.rows if row.take.name != "true")
    parts = [
        f"<h1>{html.escape(names)}</h1>",
        f"<p>{html.escape(_summary(evaluation))}</p>",
        _html_table(evaluation),
        _notes(evaluation),
        *_charts(evaluation),
        *_pictures(evaluation),
        _definitions(evaluation),
        _made_with(evaluation),
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(names)}</title>'
    )
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"


def _summary(evaluation: Evaluation) -> str:
    reference = evaluation.reference
    width, height = reference.size
    return (
        f"{len(reference)} frames of {reference.of}: {reference.name}, compared at {width}x{height} px. "
        f"Identity and CLIP direction are measured from “{evaluation.before}”. "
        f"Measured in {evaluation.seconds:.0f} s, {evaluation.peak_gib:.1f} GiB at most."
    )


def _html_table(evaluation: Evaluation) -> str:
    names = "".join(f"<th>{html.escape(row.take.name)}</th>" for row in evaluation.rows)
    rows = []
    for metric in measured(evaluation):
        cells = "".join(f"<td>{metric.text(row.scores.values.get(metric.key))}</td>" for row in evaluation.rows)
        title = f"{html.escape(metric.title)} {ARROWS[metric.better]}"
        rows.append(f"<tr><td>{title}</td>{cells}<td>{html.escape(metric.unit)}</td></tr>")
    return f'<div class="scroll"><table><tr><th></th>{names}<th></th></tr>{"".join(rows)}</table></div>'


def _notes(evaluation: Evaluation) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in notes(evaluation) + unavailable(evaluation))
    return f"<h2>Not measured, and notes</h2><ul>{items}</ul>" if items else ""


def _charts(evaluation: Evaluation) -> Iterable[str]:
    first = int(evaluation.reference.indices[0])
    for name, title, digits in CHARTS:
        series = {row.take.name: row.scores.series.get(name, np.zeros(0)) for row in evaluation.rows}
        chart = line_chart(series, first, "frame", "", digits)
        if chart:
            yield f"<h2>{html.escape(title)}</h2>{chart}"


def _pictures(evaluation: Evaluation) -> Iterable[str]:
    yield _picture("Side by side", figures.strip(evaluation))
    try:
        maps = figures.flicker_maps(evaluation, optical_flow(evaluation.settings["flow"]))
    except Unavailable:
        maps = None
    if maps is not None:
        note = "How a frame differs from the one before, warped to it by optical flow; grey-blue: not seen in both."
        yield _picture("Where it flickers most", maps, f"{note} {SCALE}")
    for row in evaluation.rows[1:]:
        decider = figures.decider_of(row)
        if decider is not None:
            title = f"Worst frames of {row.take.name}, by {BY_KEY[decider].title}"
            yield _picture(title, figures.worst_frames(evaluation, row, decider), SCALE)


def _picture(title: str, picture: UInt8[np.ndarray, "h w 3"], note: str = "") -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
    text = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f'<h2>{html.escape(title)}</h2>{text}<img src="{source}" alt="{html.escape(title)}">'


def _definitions(evaluation: Evaluation) -> str:
    items = "".join(
        f"<dt>{html.escape(metric.title.strip())}</dt><dd>{html.escape(metric.definition)}</dd>"
        for metric in measured(evaluation)
    )
    return f"<details><summary>What each number is</summary><dl>{items}</dl></details>"


def _made_with(evaluation: Evaluation) -> str:
    sources = {f"source of {row.take.name}": row.take.source for row in evaluation.rows if row.take.source}
    captions = {f"captions of {row.take.name}": row.take.captions for row in evaluation.rows if row.take.captions}
    facts = {**sources, **captions, **evaluation.settings, **versions()}
    items = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    return f"<details><summary>Settings and versions</summary><table>{items}</table></details>"
