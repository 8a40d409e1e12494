"""`ntalker experiment`: a table of the paper, trained, measured and compared with the paper's numbers."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.options import MetricOptions

if TYPE_CHECKING:
    from ntalker_ns.experiments.tables import Experiment


@dataclass
class RunExperiment:
    """Reproduce a table of the paper: train the missing runs, measure every row, print it beside the paper's.

    Example: ntalker experiment table3 --data data/anna
    """

    experiment: tyro.conf.Positional[str]
    """table1 (methods), table3 (update strategies), table4 (ablation), or your own YAML file."""
    data: Path
    """Data set made by ntalker process."""
    scale: str = "small"
    """small (a CPU, filters instead of a diffusion model) or paper (its settings: a GPU, hours)."""
    base: Path | None = None
    """The config.yml of a trained head to edit; by default the experiment trains one."""
    video: tuple[str, ...] = ()
    """Videos by other systems as ROW=PATH, such as wav2lip=wav2lip.mp4, of the held-out frames or of the whole clip."""
    audio: Path | None = None
    """New speech (a sound or video file) to compare the heads on, with the unedited head as reference; by default they
    are compared on the held-out frames."""
    output_dir: Path = Path("outputs")
    """Where runs are looked for and written. The report goes to OUTPUT_DIR/experiments/NAME."""
    metrics: Annotated[MetricOptions, tyro.conf.arg(name="")] = field(default_factory=MetricOptions)
    """Weights and options of the metrics."""

    def main(self) -> None:
        """Trains, measures, prints."""
        from rich.console import Console

        from ntalker_ns.evaluation.report.write import print_remarks, write_report, write_text
        from ntalker_ns.experiments.rows import compared, evaluate_rows, table
        from ntalker_ns.experiments.tables import load_experiment
        from ntalker_ns.experiments.training import train_or_reuse
        from ntalker_ns.media.output_paths import check_folder

        experiment = load_experiment(self.experiment)
        videos = self._videos(experiment)
        if self.audio is not None and not self.audio.is_file():
            raise NTalkerError(f"There is no file at '{self.audio}'.")
        parts = (Path(self.experiment).stem, self.scale, *([self.audio.stem] if self.audio else []))
        folder = self.output_dir / "experiments" / "-".join(parts)
        check_folder(folder, "--output-dir")
        trained = train_or_reuse(experiment, self.scale, self.data, self.output_dir, self.base)
        evaluation = evaluate_rows(experiment, trained, videos, self.metrics, folder / "videos", self.audio)
        write_report(folder, evaluation)
        rows = compared(experiment, trained, evaluation)
        write_text(folder / "table.json", json.dumps(rows, indent=1, ensure_ascii=False))
        spoken = f", speaking {self.audio.name}" if self.audio else ""
        Console().print(table(experiment, rows, f"{experiment.title} ({self.scale} scale{spoken})"))
        print_remarks(evaluation)
        print(f"Report: {folder / 'report.html'}")

    def _videos(self, experiment: "Experiment") -> dict[str, Path]:
        videos = {}
        for text in self.video:
            name, _, place = text.partition("=")
            if name not in experiment.rows or not place:
                raise NTalkerError(f"--video {text} must be ROW=PATH; the rows are {', '.join(experiment.rows)}.")
            if not Path(place).is_file():
                raise NTalkerError(f"There is no video at '{place}'.")
            videos[name] = Path(place)
        return videos
