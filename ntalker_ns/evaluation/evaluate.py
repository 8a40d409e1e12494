"""Scores runs and videos against the same true frames, for `ntalker evaluate` and the experiments."""

import dataclasses
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.baselines import baseline_entries
from ntalker_ns.evaluation.entries import Entry, captions_of
from ntalker_ns.evaluation.footage import (
    Reference,
    Take,
    kept_take,
    run_reference,
    run_take,
    true_take,
    video_reference,
    video_take,
    write_take,
)
from ntalker_ns.evaluation.landmark_poses import landmark_pose_entries
from ntalker_ns.evaluation.metrics import catalogue
from ntalker_ns.evaluation.metrics.clip_direction import load_clip
from ntalker_ns.evaluation.metrics.fidelity import load_lpips, load_perceptual
from ntalker_ns.evaluation.metrics.identity import load_arcface
from ntalker_ns.evaluation.metrics.syncnet import load_syncnet
from ntalker_ns.evaluation.metrics.warping import optical_flow
from ntalker_ns.evaluation.metrics.weights import Unavailable, weight_file
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions
from ntalker_ns.evaluation.peak_memory import PeakMemory
from ntalker_ns.evaluation.scores import FidelityJudge, Scene, Scores, Tools, attempt, score_take, score_true
from ntalker_ns.runs import load_run

FORMAT_VERSION = 1
PACKAGES = (
    "ntalker_ns",
    "nerfstudio",
    "torch",
    "torchvision",
    "torchmetrics",
    "numpy",
    "opencv-contrib-python",
    "mediapipe",
    "transformers",
    "onnxruntime",
)
EDITED = Unavailable("an edit is meant to differ from the true frames")


@dataclass(frozen=True)
class Row:
    """A take and its figures."""

    take: Take
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """The content of a report."""

    reference: Reference
    before: str
    """The name of the take that edits are compared with."""
    rows: list[Row]
    """The true frames first."""
    settings: dict[str, Any]
    """The options."""
    seconds: float
    """Duration of the evaluation."""
    peak_gib: float
    """Peak resident memory of the process, GiB."""

    def row(self, name: str) -> Row:
        """The row of a take."""
        return next(row for row in self.rows if row.take.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the pictures."""
        reference = self.reference
        width, height = reference.size
        return {
            "format_version": FORMAT_VERSION,
            "frames": {
                "of": reference.name,
                "first": int(reference.indices[0]),
                "last": int(reference.indices[-1]),
                "count": len(reference),
                "width": width,
                "height": height,
            },
            "before": self.before,
            "metrics": {metric.key: dataclasses.asdict(metric) for metric in catalogue.METRICS},
            "takes": {row.take.name: _take_dict(row) for row in self.rows},
            "settings": self.settings,
            "versions": versions(),
            "seconds": round(self.seconds, 2),
            "peak_memory_gib": round(self.peak_gib, 3),
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)


def _take_dict(row: Row) -> dict[str, Any]:
    series = {name: [_number(value) for value in values] for name, values in row.scores.series.items()}
    return {
        "source": row.take.source,
        "frames": len(row.take),
        "captions": row.take.captions,
        "notes": row.take.notes,
        "values": row.scores.values,
        "unavailable": row.scores.unavailable,
        "series": series,
    }


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def versions() -> dict[str, str]:
    """Python, packages and device."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {"python": platform.python_version(), "device": device, **packages}


def evaluate(
    entries: Sequence[Entry],
    options: MetricOptions,
    reference: Path | None = None,
    base: Entry | None = None,
    frames: FrameOptions = FrameOptions(),  # noqa: B008 (frozen)
    baselines: bool = False,
    landmark_poses: bool = False,
    videos: Path | None = None,
    metrics: Collection[catalogue.Metric] = catalogue.METRICS,
) -> Evaluation:
    """Scores runs and videos against the same true frames.

    Args:
        entries: runs and videos. Without `reference`, the true frames are those of the first run's data set.
        options: of the metrics; without captions, each edit is measured by its own.
        reference: the true video, where there is no run.
        base: the run or video that the entries are edits of; it is scored too.
        frames: which frames of a run's clip, and how they are rendered.
        baselines: also score the nearest and the mean training frame.
        landmark_poses: also score each run with poses by landmarks alone.
        videos: a folder for mp4s with sound of what is rendered here; None writes none.
        metrics: which metrics are taken.

    Raises:
        NTalkerError: a run or video cannot be read, or they do not belong together.
    """
    start, peak = time.perf_counter(), PeakMemory()
    given = [*([base] if base else []), *entries]
    source = next((entry for entry in given if entry.is_run), None)
    everything = [
        *given,
        *(landmark_pose_entries(given, frames.surroundings) if landmark_poses else []),
        *(baseline_entries(source) if baselines else []),
    ]
    _check_names(everything)
    captions = {entry.name: options.captions or captions_of(entry) for entry in everything}
    wanted = frozenset(metric.key for metric in metrics)
    tools, runs = load_tools(options, any(captions.values()), wanted), _Runs()
    truth = _truth(source, reference, frames, runs)
    judged = [_gather(entry, truth, tools, runs, frames) for entry in everything]
    true = true_take(truth)
    if videos is not None:
        made = [take for entry, (take, _) in zip(everything, judged, strict=True) if entry.is_run]
        for take in (true, *made):
            write_take(videos / f"{take.name}.mp4", take)
    before = judged[0][0] if base else true
    rows = [Row(true, score_true(true, Scene(truth, true, tools, wanted)))]
    for take, judge in judged:
        take.captions = captions[take.name]
        edited = base is not None and take.name in {entry.name for entry in entries}
        scene = Scene(truth, before if edited else true, tools, wanted)
        rows.append(Row(take, score_take(take, scene, EDITED if edited else judge)))
    settings = {**dataclasses.asdict(options), **dataclasses.asdict(frames), "baselines": baselines}
    settings["landmark_poses"] = landmark_poses
    return Evaluation(truth, before.name, rows, settings, time.perf_counter() - start, peak.gib())


NOT_WANTED = Unavailable("it is not among the chosen metrics")


def load_tools(options: MetricOptions, captioned: bool, wanted: Collection[str]) -> Tools:
    """Loads what the metrics need, as far as it is available; what is not is reported and stops nothing.

    Args:
        options: of the metrics.
        captioned: whether anything has captions, which CLIP direction needs.
        wanted: keys of the metrics that are taken.
    """
    return Tools(
        flow=attempt(optical_flow, options.flow),
        syncnet=attempt(lambda: load_syncnet(weight_file(options.syncnet, "syncnet_v2.model", "--syncnet"))),
        arcface=attempt(load_arcface, options.arcface, options.arcface_takes),
        clip=attempt(load_clip, options.clip) if captioned else Unavailable("no captions were given"),
        lpips=attempt(load_lpips) if "lpips" in wanted else NOT_WANTED,
        perceptual=attempt(load_perceptual) if "perceptual_efficientnet" in wanted else NOT_WANTED,
    )


def _check_names(entries: Sequence[Entry]) -> None:
    names = ["true", *(entry.name for entry in entries)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise NTalkerError(f"Two rows of the report would be called '{twice}': rename one of the files.")


def _truth(source: Entry | None, reference: Path | None, frames: FrameOptions, runs: "_Runs") -> Reference:
    if source is not None and reference is not None:
        raise NTalkerError(f"The data set of {source.path} has the true frames: leave --reference out.")
    if reference is not None:
        return video_reference(reference)
    if source is None:
        raise NTalkerError("There is nothing to compare the videos with: give --reference with the true one.")
    return run_reference(runs.load(source), frames)


class _Runs:
    """Keeps the run that was loaded last: two need not fit into memory."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._pipeline: Any = None

    def load(self, entry: Entry) -> Any:
        """A run's pipeline, with an entry's refinement weight."""
        if entry.path != self._path:
            self._path = self._pipeline = None
            self._pipeline = load_run(entry.path)
            self._path = entry.path
        model, weight = self._pipeline.model, entry.refinement_weight
        if model.edited:
            model.refinement_weight = model.config.refinement_weight if weight is None else weight
        elif weight is not None:
            raise NTalkerError(f"{entry.path} is no edit: it has no refinement network to weigh.")
        return self._pipeline


def _gather(
    entry: Entry, truth: Reference, tools: Tools, runs: _Runs, frames: FrameOptions
) -> tuple[Take, FidelityJudge]:
    judge = FidelityJudge(truth, tools)
    if entry.is_run:
        take = _run_take(entry, truth, judge, runs, frames)
    else:
        take = video_take(entry.name, entry.path, truth, judge)
    take.notes += entry.notes
    return take, judge


def _run_take(entry: Entry, truth: Reference, judge: FidelityJudge, runs: _Runs, frames: FrameOptions) -> Take:
    pipeline = runs.load(entry)
    clip_frames = len(pipeline.model.driving)
    if clip_frames != truth.of:
        raise NTalkerError(
            f"{entry.path} was trained on a clip of {clip_frames} frames, the true frames are of one of {truth.of}: "
            "evaluate runs of one data set together."
        )
    if entry.pictures is None:
        return run_take(entry.name, pipeline, truth, str(entry.path), judge, frames.surroundings)
    pictures = track(entry.pictures(pipeline, truth), f"Making {entry.name}", total=len(truth))
    take = kept_take(entry.name, pictures, truth, judge)
    take.sound, take.source = truth.sound, str(entry.path)
    return take
