"""How well lips follow speech that was held out, cross-validated over the parts of a clip.

`regression` (seconds): the audio-to-lips regression alone, each part predicted from what the others teach.
`stream` (a minute): the same, with the features of a stream, by its look-ahead.
`heads`: three heads, each trained on two thirds of the frames and rendered on the third.

Examples:
    python -m scripts.benchmarks.held_out_speech regression --data data/anna data/ben
    python -m scripts.benchmarks.held_out_speech stream --data data/anna
    python -m scripts.benchmarks.held_out_speech heads --data data/anna --steps 900
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float

from ntalker_ns.audio.whisper_stream import STEPS_AHEAD, WhisperStream
from ntalker_ns.cli.run import run_command
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.lips import LipSync, lip_sync
from ntalker_ns.media.sound import read_audio
from ntalker_ns.speech.lip_model import create_lip_model
from ntalker_ns.speech.lip_regression import GUARD
from ntalker_ns.speech.offset import shifted, sync_curve
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip

THIRDS = ("third-1", "third-2", "third-3")
Openings = Float[np.ndarray, " n"]


@dataclass
class Regression:
    """Predict the lip shapes of each part of clips from what the other parts teach."""

    data: tuple[Path, ...]
    """Data sets."""
    parts: int = 5
    """Number of parts of each clip."""

    def main(self) -> None:
        """Fits, predicts, prints the table."""
        if self.parts < 2:
            raise NTalkerError(f"--parts must be at least 2, not {self.parts}.")
        rows = []
        for folder in self.data:
            _, sequence = read_training_clip(TalkerDataParserConfig(data=folder))
            shapes = predicted_shapes(sequence, self.parts)
            error = relative_error(shapes, sequence.track.lip_shapes)
            sync = lip_sync(predicted_openings(shapes, sequence), sequence.track.mouth_opening)
            figures = (len(sequence) / sequence.fps, error, sync.correlation, sync.amplitude_ratio)
            rows.append((folder.name, *(f"{figure:.2f}" for figure in figures)))
        columns = ("clip", "s", "squared error of shapes / variance", "mouth opening: correlation", "amplitude")
        print_table("Lips predicted from audio", columns, rows)


@dataclass
class Stream:
    """Predict the lip shapes of each part of clips from their stream features, by a map learned from other parts."""

    data: tuple[Path, ...]
    """Data sets with whisper features."""
    parts: int = 5
    """Number of parts of each clip."""

    def main(self) -> None:
        """Fits, predicts, prints the table."""
        rows = []
        for folder in self.data:
            _, sequence = read_training_clip(TalkerDataParserConfig(data=folder))
            sound = in_step(folder, sequence)
            for look_ahead in STEPS_AHEAD:
                shapes = predicted_shapes(sequence, self.parts, streamed(sound, look_ahead, len(sequence)))
                error = relative_error(shapes, sequence.track.lip_shapes)
                sync = lip_sync(predicted_openings(shapes, sequence), sequence.track.mouth_opening)
                figures = (error, sync.correlation, sync.amplitude_ratio)
                rows.append((folder.name, f"{look_ahead}", *(f"{figure:.2f}" for figure in figures), f"{sync.lag}"))
        columns = ("clip", "ms", "squared error of shapes / variance", "mouth opening: correlation", "amplitude", "lag")
        print_table("Lips predicted from a stream, by its look-ahead", columns, rows)


@dataclass
class Heads:
    """Train a head on two thirds of a clip, three times, and compare its lips with the true ones on the third."""

    data: Path | None = None
    """Data set to train on; or give --runs."""
    runs: tuple[Path, ...] = ()
    """The config.yml of three runs trained with --pipeline.datamanager.dataparser.holdout third-1, third-2, third-3."""
    method: str = "ntalker-base-small"
    """Method to train."""
    steps: int = 1200
    """Training steps of each of the three heads."""
    output_dir: Path = Path("outputs")
    """Folder of the runs and of lip_sync.json."""

    def main(self) -> None:
        """Trains unless runs are given, renders, measures, prints the table."""
        parts = {third: measure(config) for third, config in zip(THIRDS, self._configs(), strict=True)}
        rows = {third: lip_sync(*openings) for third, openings in parts.items()}
        rows["all"] = joined_sync(list(parts.values()))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "lip_sync.json"
        path.write_text(json.dumps({name: dataclasses.asdict(sync) for name, sync in rows.items()}, indent=2), "utf8")
        columns = ("held out", "frames", "correlation", "best of 20 shifted", "std ratio", "lag, frames")
        print_table(
            "Mouth opening, rendered from held-out audio against the truth",
            columns,
            [
                (
                    name,
                    f"{s.frames}",
                    *(f"{v:.2f}" for v in (s.correlation, max(s.shifted), s.amplitude_ratio)),
                    f"{s.lag}",
                )
                for name, s in rows.items()
            ],
        )
        verdict = "above" if rows["all"].beats_shifts else "NOT above"
        print(f"The correlation is {verdict} that of each of the shifted openings. Figures: {path}")

    def _configs(self) -> list[Path]:
        from ntalker_ns.runs import method_config, train_config

        if self.runs:
            if len(self.runs) != len(THIRDS):
                raise NTalkerError(f"--runs needs three runs, one per held-out third, not {len(self.runs)}.")
            return list(self.runs)
        if self.data is None:
            raise NTalkerError("Give --data with a data set to train on, or --runs with three trained runs.")
        trained = []
        for third in THIRDS:
            fields: dict[str, Any] = {"experiment_name": f"{self.data.name}-{third}", "max_num_iterations": self.steps}
            config = method_config(self.method, data=self.data, output_dir=self.output_dir, **fields)
            config.pipeline.datamanager.dataparser.holdout = third
            trained.append(train_config(config))
        return trained


def in_step(folder: Path, sequence: DrivingSequence) -> Float[np.ndarray, " samples"]:
    """A data set's sound, moved to where its mouth movements are, as its features were."""
    sound = read_audio(folder / "audio.wav")
    sync = sync_curve(sound, sequence.track.mouth_opening)
    return shifted(sound, sync.lag) if sync.is_confident else sound


def streamed(sound: Float[np.ndarray, " samples"], look_ahead: int, frames: int) -> Float[np.ndarray, "n 16 channels"]:
    """A stream's windows of so many frames; the last one again for those that the sound lacks."""
    stream = WhisperStream(look_ahead)
    windows = np.concatenate([stream.push(sound), stream.flush()])
    return windows[np.minimum(np.arange(frames), len(windows) - 1)]


def predicted_shapes(
    sequence: DrivingSequence, parts: int, windows: Float[np.ndarray, "n 16 channels"] | None = None
) -> Float[np.ndarray, "n 6"]:
    """The lip shapes of each part, predicted from the others without the frames next to it.

    Args:
        sequence: of a clip.
        parts: their number.
        windows: those that shapes are predicted from; None takes those that they are learned from.
    """
    track, frames = sequence.track, np.arange(len(sequence))
    predicted = np.zeros_like(track.lip_shapes)
    features, shapes = torch.from_numpy(track.features), torch.from_numpy(track.lip_shapes)
    given = features if windows is None else torch.from_numpy(windows)
    for part in np.array_split(frames, parts):
        others = frames[(frames < part[0] - GUARD) | (frames > part[-1] + GUARD)]
        silence = silence_examples(sequence.feature_info, track.lip_shapes[others], track.mouth_opening[others])
        regression = create_lip_model(sequence.feature_info, sequence.rig.lip_basis, len(others))
        regression.fit(features[others], shapes[others], silence)
        predicted[part] = regression.lip_shapes(given[part]).numpy()
    return predicted


def relative_error(predicted: Float[np.ndarray, "n 6"], true: Float[np.ndarray, "n 6"]) -> float:
    """The squared error of predicted shapes over the true ones' variance."""
    return float(np.square(predicted - true).sum() / np.square(true - true.mean(axis=0)).sum())


def predicted_openings(predicted: Float[np.ndarray, "n 6"], sequence: DrivingSequence) -> Openings:
    """The mouth openings of predicted shapes, by linear regression from the true ones, which explain all but 1%."""
    true, known = sequence.track.mouth_opening, np.isfinite(sequence.track.mouth_opening)
    columns, new = (np.hstack([each, np.ones((len(each), 1))]) for each in (sequence.track.lip_shapes, predicted))
    return np.maximum(new @ np.linalg.lstsq(columns[known], true[known], rcond=None)[0], 0.0)


def measure(load_config: Path) -> tuple[Openings, Openings]:
    """Mouth openings on a run's held-out frames: rendered from their own audio over the true surroundings, and true."""
    from ntalker_ns.evaluation.entries import Entry
    from ntalker_ns.evaluation.evaluate import evaluate
    from ntalker_ns.evaluation.metrics import catalogue
    from ntalker_ns.evaluation.options import FrameOptions, MetricOptions

    frames = FrameOptions(surroundings="clip")
    found = evaluate([Entry("head", load_config)], MetricOptions(), frames=frames, metrics=catalogue.FACES)
    return found.row("head").scores.series["opening"], found.row("true").scores.series["opening"]


def joined_sync(parts: list[tuple[Openings, Openings]]) -> LipSync:
    """The comparison of all parts, one after the other."""
    rendered, true = (np.concatenate(openings) for openings in zip(*parts, strict=True))
    return lip_sync(rendered, true)


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table whose first column is text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    # A file takes the whole table; a terminal has a width.
    console = Console() if sys.stdout.isatty() else Console(width=240)
    console.print(table)


Commands = (
    Annotated[Regression, tyro.conf.subcommand("regression")]
    | Annotated[Stream, tyro.conf.subcommand("stream")]
    | Annotated[Heads, tyro.conf.subcommand("heads")]
)

if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Commands)))  # type: ignore[arg-type]
