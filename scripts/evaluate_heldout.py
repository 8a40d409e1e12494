"""Scores a run's held-out frames against the nearest and the mean training frame: table, picture, JSON.

Example: python scripts/evaluate_heldout.py --load-config outputs/anna/ntalker-base-small/TIME/config.yml
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from ntalker_ns.cli.run import run_command


@dataclass
class EvaluateHeldout:
    """Score a run's held-out frames against the nearest and the mean training frame."""

    load_config: Path
    """The run's config.yml."""
    output_dir: Path | None = None
    """Where heldout.json and heldout.png go; by default beside the config."""
    surroundings: Literal["clip", "learned"] = "clip"
    """What the head is composed over: the true frame's torso and background, or the learned ones."""
    image_size: int | None = None
    """Longest side of the compared pictures, px; by default that of the training."""
    curve: bool = False
    """Score also every earlier checkpoint that the run kept (ns-train --save-only-latest-checkpoint False)."""

    def main(self) -> None:
        """Renders, compares, prints the table."""
        from rich.console import Console

        from ntalker_ns import runs
        from ntalker_ns.evaluation import heldout as report

        pipeline = runs.load_run(self.load_config)
        result = report.evaluate_heldout(pipeline, surroundings=self.surroundings, image_size=self.image_size)
        folder = self.output_dir or self.load_config.parent
        report.write_examples(folder / "heldout.png", result)
        (folder / "heldout.json").write_text(json.dumps(result.to_dict(), indent=2), "utf8")
        Console().print(report.heldout_table(result))
        print(f"Pictures: {folder / 'heldout.png'}")
        if self.curve:
            self._write_curve(pipeline, folder)

    def _write_curve(self, pipeline: Any, folder: Path) -> None:
        from ntalker_ns.evaluation.curve import curve_picture, heldout_curve
        from ntalker_ns.evaluation.report.write import write_text
        from ntalker_ns.media.contact_sheet import write_picture

        curve = heldout_curve(pipeline, self.load_config.parent / "nerfstudio_models", self.surroundings)
        write_picture(folder / "heldout_curve.png", curve_picture(curve))
        write_text(folder / "heldout_curve.json", json.dumps(curve.to_dict(), indent=1))
        print(curve.sentence())
        print(f"Curve: {folder / 'heldout_curve.png'}")


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(EvaluateHeldout)))
