"""Do the lips follow speech that the head was not trained on? Cross-validated over the thirds of a clip.

A head is trained on two thirds of the frames and speaks the third one's own audio; its mouth opening is measured on
the rendered pictures and compared with the true one, and with what circularly shifted audio reaches.

Example: python scripts/lip_sync.py --data data/anna --steps 1200 --output-dir outputs
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, UInt8

from ntalker_ns.capture.landmarks import face_landmarks
from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.lips import SHIFTS, LipSync, lip_sync, mouth_openings, opening_correlation

THIRDS = ("third-1", "third-2", "third-3")


@dataclass
class LipSyncOverThirds:
    """Cross-validate over the thirds of a clip whether a head's lips follow speech it was not trained on."""

    data: Path | None = None
    """Data set to train on; or give --runs."""
    runs: tuple[Path, ...] = ()
    """The config.yml of three runs trained with --pipeline.datamanager.dataparser.holdout third-1, third-2, third-3."""
    method: str = "ntalker-base-small"
    """Method to train."""
    steps: int = 1200
    """Training steps of each of the three heads."""
    output_dir: Path = Path("outputs")
    """Where runs and lip_sync.json go."""
    shift_audio: bool = False
    """Render again with each of the 20 shifted audios, which takes 20 times as long. Otherwise the measured opening is
    shifted, which is the same for a head whose mouth is moved by nothing but audio."""

    def main(self) -> None:
        """Trains where asked to, renders, measures, prints the table."""
        from rich.console import Console
        from rich.table import Table

        rows, parts = {}, []
        for third, config in zip(THIRDS, self._configs(), strict=True):
            part = measure(config, SHIFTS if self.shift_audio else 0)
            parts.append(part)
            rows[third] = part.sync()
        rows["all"] = Measured.joined(parts).sync()
        table = Table(title="Mouth opening, rendered from held-out audio against the truth")
        for column in ("held out", "frames", "correlation", "best of 20 shifted", "std ratio", "lag, frames"):
            table.add_column(column, justify="left" if column == "held out" else "right")
        for name, sync in rows.items():
            figures = (f"{sync.correlation:.2f}", f"{max(sync.shifted):.2f}", f"{sync.amplitude_ratio:.2f}")
            table.add_row(name, str(sync.frames), *figures, str(sync.lag))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "lip_sync.json"
        path.write_text(json.dumps({name: dataclasses.asdict(sync) for name, sync in rows.items()}, indent=2), "utf8")
        Console().print(table)
        verdict = "above" if rows["all"].beats_shifts else "NOT above"
        print(f"The correlation is {verdict} that of each of the {SHIFTS} shifted audios. Figures: {path}")

    def _configs(self) -> Iterator[Path]:
        from ntalker_ns.runs import method_config, train_config

        if self.runs:
            if len(self.runs) != len(THIRDS):
                raise NTalkerError(f"--runs needs three runs, one per held-out third, not {len(self.runs)}.")
            yield from self.runs
            return
        if self.data is None:
            raise NTalkerError("Give --data with a data set to train on, or --runs with three trained runs.")
        for third in THIRDS:
            config = method_config(
                self.method, data=self.data, output_dir=self.output_dir, max_num_iterations=self.steps
            )
            config.pipeline.datamanager.dataparser.holdout = third
            config.experiment_name = f"{self.data.name}-{third}"
            yield train_config(config)


@dataclass(frozen=True)
class Measured:
    """Mouth openings of a held-out part.

    Attributes:
        rendered: from its own audio.
        true: on the true frames.
        shifted: from each shifted audio, where those were rendered.
    """

    rendered: Float[np.ndarray, " n"]
    true: Float[np.ndarray, " n"]
    shifted: Float[np.ndarray, "shifts n"]

    @classmethod
    def joined(cls, parts: "list[Measured]") -> "Measured":
        """All parts, one after the other."""
        return cls(
            np.concatenate([part.rendered for part in parts]),
            np.concatenate([part.true for part in parts]),
            np.concatenate([part.shifted for part in parts], axis=1),
        )

    def sync(self) -> LipSync:
        """Every comparison of the two courses."""
        sync = lip_sync(self.rendered, self.true)
        if not len(self.shifted):
            return sync
        return dataclasses.replace(sync, shifted=tuple(opening_correlation(row, self.true) for row in self.shifted))


def measure(load_config: Path, shifts: int) -> Measured:
    """Renders a run's held-out frames from their own audio and measures the mouth.

    Args:
        load_config: the run's config.yml.
        shifts: how many circularly shifted audios to render as well.
    """
    from ntalker_ns import runs

    pipeline = runs.load_run(load_config)
    held_out, own = pipeline.datamanager.eval_dataset, pipeline.model.driving
    frames = held_out.frame_indices
    true = mouth_openings(held_out.require_clip().landmarks[frames].astype(np.float64))
    rendered = rendered_openings(pipeline)
    shifted = []
    for step in np.round(np.arange(1, shifts + 1) * len(frames) / (shifts + 1)).astype(int):
        features = own.features.copy()
        features[frames] = np.roll(own.features[frames], step, axis=0)
        pipeline.model.set_driving(dataclasses.replace(own, features=features))
        shifted.append(rendered_openings(pipeline))
    return Measured(rendered, true, np.array(shifted).reshape(shifts, len(frames)))


def rendered_openings(pipeline: Any) -> Float[np.ndarray, " n"]:
    """Mouth openings on the rendered held-out frames, NaN where no face is found."""
    return mouth_openings(face_landmarks(rendered_pictures(pipeline)))


def rendered_pictures(pipeline: Any) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The held-out frames as the model renders them."""
    from ntalker_ns.console import track
    from ntalker_ns.evaluation.heldout import render

    cameras = pipeline.datamanager.eval_dataset.cameras
    for index in track(range(len(cameras)), "Rendering held-out frames"):
        yield (render(pipeline, cameras[index : index + 1]) * 255.0 + 0.5).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(LipSyncOverThirds)))
