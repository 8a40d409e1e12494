"""How much of the lips can be heard in a clip? Each part of it is heard by what the other parts taught; no head is
trained, which takes seconds.

Example: python scripts/hearing.py --data data/anna data/ben
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float

from ntalker_ns.audio.silence import pauses
from ntalker_ns.cli.run import run_command
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.lips import LipSync, lip_sync
from ntalker_ns.speech.lip_regression import APART, LipReader
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip


@dataclass
class Hearing:
    """Say how much of the lips can be heard in clips, each part of one by what its other parts teach."""

    data: tuple[Path, ...]
    """Data sets."""
    parts: int = 5
    """In how many parts each is cut."""

    def main(self) -> None:
        """Fits, hears, prints the table."""
        from rich.console import Console
        from rich.table import Table

        if self.parts < 2:
            raise NTalkerError(f"--parts must be at least 2, not {self.parts}.")
        table = Table(title="Lips as they are heard, against the true ones")
        for column in ("clip", "s", "squared error of shapes / variance", "mouth opening: correlation", "amplitude"):
            table.add_column(column, justify="left" if column == "clip" else "right")
        for folder in self.data:
            _, sequence = read_training_clip(TalkerDataParserConfig(data=folder))
            shapes = heard_shapes(sequence, self.parts)
            error = off(shapes, sequence.lip_shapes)
            sync = openings(shapes, sequence)
            figures = (f"{len(sequence) / sequence.fps:.0f}", f"{error:.2f}", f"{sync.correlation:.2f}")
            table.add_row(folder.name, *figures, f"{sync.amplitude_ratio:.2f}")
        Console().print(table)


def heard_shapes(sequence: DrivingSequence, parts: int) -> Float[np.ndarray, "n 6"]:
    """The lip shapes of each part, heard by what the others taught but for what is near it.

    Args:
        sequence: of a clip.
        parts: how many.
    """
    frames, heard = np.arange(len(sequence)), np.zeros_like(sequence.lip_shapes)
    features, shapes = torch.from_numpy(sequence.features), torch.from_numpy(sequence.lip_shapes)
    for part in np.array_split(frames, parts):
        others = frames[(frames < part[0] - APART) | (frames > part[-1] + APART)]
        silent, closed = pauses(sequence, others)
        reader = LipReader(features.shape[-1], shapes.shape[-1], len(others) + len(silent))
        reader.fit(torch.cat([features[others], silent]), torch.cat([shapes[others], closed]))
        heard[part] = reader(features[part]).numpy()
    return heard


def off(heard: Float[np.ndarray, "n 6"], true: Float[np.ndarray, "n 6"]) -> float:
    """The squared distance of heard shapes from true ones, over that of their mean."""
    return float(np.square(heard - true).sum() / np.square(true - true.mean(axis=0)).sum())


def openings(heard: Float[np.ndarray, "n 6"], sequence: DrivingSequence) -> LipSync:
    """The mouth's opening, which follows from the shape but for a hundredth, as it is heard and as it is."""
    true, known = sequence.mouth_opening, np.isfinite(sequence.mouth_opening)
    columns, asked = (np.hstack([each, np.ones((len(each), 1))]) for each in (sequence.lip_shapes, heard))
    follows = np.linalg.lstsq(columns[known], true[known], rcond=None)[0]
    return lip_sync(np.maximum(asked @ follows, 0.0), true)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Hearing)))
