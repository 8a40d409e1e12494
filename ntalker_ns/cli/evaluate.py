"""`ntalker evaluate`: runs and videos scored by the paper's metrics."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions

if TYPE_CHECKING:
    from ntalker_ns.evaluation.entries import Entry


@dataclass
class Evaluate:
    """Score runs, or videos made by any system, against the true frames; write a table, report.json and report.html.

    Examples: ntalker evaluate --load-config outputs/anna/ntalker-base/TIME/config.yml --baselines;
    ntalker evaluate --video wav2lip.mp4 sadtalker.mp4 --reference true.mp4
    """

    load_config: tuple[Path, ...] = ()
    """The config.yml of one or more runs on one data set, whose frames are the ground truth."""
    video: tuple[Path, ...] = ()
    """Videos by any system: of the compared frames alone, or of the whole clip."""
    reference: Path | None = None
    """The ground-truth video, if no run is given."""
    base: Path | None = None
    """The unedited head: a run's config.yml or a video. Identity and CLIP direction are measured from it;
    PSNR, SSIM and LPIPS are measured for it only. By default the base that an edited run records."""
    shown: Annotated[FrameOptions, tyro.conf.arg(name="")] = field(default_factory=FrameOptions)
    """Which frames are compared, and how they are rendered."""
    baselines: bool = False
    """Also score the nearest training frame (an oracle, chosen by the true landmarks) and the mean training frame, both
    over the true torso and background."""
    landmark_poses: bool = False
    """Also score each run with the head poses that landmarks alone give. The data set's poses were aligned to the
    texture of every frame's face, the compared ones' too."""
    curve: bool = False
    """Also score every earlier checkpoint that the runs kept (ns-train --save-only-latest-checkpoint False): PSNR over
    training, as NAME-curve.png and NAME-curve.json."""
    output_dir: Path | None = None
    """Folder of the report and of videos of what is rendered; by default "evaluation" beside the first run or video."""
    metrics: Annotated[MetricOptions, tyro.conf.arg(name="")] = field(default_factory=MetricOptions)
    """Weights and options of the metrics."""

    def main(self) -> None:
        """Renders, measures, prints the table and writes the report."""
        from rich.console import Console

        from ntalker_ns.evaluation.evaluate import evaluate
        from ntalker_ns.evaluation.report.write import print_remarks, table, write_report
        from ntalker_ns.media.output_paths import check_folder

        self._check()
        folder = self.output_dir or (self.load_config or self.video)[0].parent / "evaluation"
        check_folder(folder, "--output-dir")
        base, entries = entries_of(self.load_config, self.video, self.base)
        evaluation = evaluate(
            entries,
            self.metrics,
            reference=self.reference,
            base=base,
            frames=self.shown,
            baselines=self.baselines,
            landmark_poses=self.landmark_poses,
            videos=folder / "videos",
        )
        write_report(folder, evaluation)
        Console().print(table(evaluation))
        print_remarks(evaluation)
        if self.curve:
            self._write_curves(folder)
        print(f"{evaluation.seconds:.0f} s, {evaluation.peak_gib:.1f} GiB at most. Report: {folder / 'report.html'}")

    def _write_curves(self, folder: Path) -> None:
        from ntalker_ns.evaluation.curve import write_curve

        for entry in named_entries(list(self.load_config)):
            print(f"{entry.name}: {write_curve(entry.path, folder, entry.name, self.shown.surroundings).sentence()}")

    def _check(self) -> None:
        """Checks the options before anything is loaded."""
        if self.curve and not self.load_config:
            raise NTalkerError("--curve scores the checkpoints of runs: give --load-config.")
        if not self.load_config and not self.video:
            raise NTalkerError("Give --load-config with a run, or --video and --reference.")
        for path in (*self.load_config, *self.video, self.reference, self.base):
            if path is not None and not path.is_file():
                raise NTalkerError(f"There is no file at '{path}'.")
        for path in self.load_config:
            if path.suffix not in (".yml", ".yaml"):
                raise NTalkerError(f"--load-config {path} is no config.yml: give videos with --video.")


def entries_of(
    configs: tuple[Path, ...], videos: tuple[Path, ...], base: Path | None
) -> "tuple[Entry | None, list[Entry]]":
    """The base, and the other runs and videos, in whatever order they are given.

    Args:
        configs: config.yml files of runs.
        videos: videos.
        base: what the others are edits of; None takes the base that edits among the runs record.

    Raises:
        NTalkerError: the edits start from different runs.
    """
    from ntalker_ns.evaluation.entries import base_of, common_base

    recorded = common_base(configs) if base is None else None
    base = recorded if recorded is not None and recorded.is_file() else base
    others = [path for path in (*configs, *videos) if base is None or path.resolve() != base.resolve()]
    entries = named_entries([*others, *([] if base is None else [base])])
    if base is not None:
        return entries.pop(), entries
    if recorded is not None:
        lost = f"the run that it is an edit of, {recorded}, is not there: it is measured from the true frames"
        entries = [
            replace(entry, notes=(lost,)) if entry.is_run and base_of(entry.path) is not None else entry
            for entry in entries
        ]
    return None, entries


RESERVED = ("true", "nearest", "mean")
"""Names of rows that are always there, or that --baselines adds."""


def named_entries(paths: list[Path]) -> "list[Entry]":
    """Runs and videos with the shortest names that tell them apart.

    Args:
        paths: config.yml files of runs (EXPERIMENT/METHOD/TIME/config.yml), and videos.

    Returns:
        Entries named METHOD or METHOD-TIME, or after the video's file, where need be with its folder before.
    """
    from ntalker_ns.evaluation.entries import Entry

    short = [_name(path, 1) for path in paths]
    clash = [name in RESERVED or short.count(name) > 1 for name in short]
    names = [_name(path, 2) if clashes else name for path, name, clashes in zip(paths, short, clash, strict=True)]
    return [Entry(name, path) for name, path in zip(names, paths, strict=True)]


def _name(path: Path, parts: int) -> str:
    run = path.suffix in (".yml", ".yaml")
    folders = path.resolve().parts
    kept = folders[-3 : -3 + parts] if run else (*folders[-parts:-1], path.stem)
    return "-".join(part for part in kept if part != "/")
