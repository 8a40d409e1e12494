"""Scores a run's held-out frames against the nearest and the mean training frame: table, picture, JSON.

Example: python scripts/evaluate_heldout.py --load-config outputs/anna/ntalker-base-small/TIME/config.yml
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ntalker_ns.cli.run import run_command


@dataclass
class EvaluateHeldout:
    """Score a run's held-out frames against the nearest and the mean training frame."""

    load_config: Path
    """The run's config.yml."""
    output_dir: Path | None = None
    """Where heldout.json and heldout.png go; by default beside the config."""
    rest: Literal["clip", "field"] = "clip"
    """What the head is composed over: the true frame's torso and background, or the learned ones."""

    def main(self) -> None:
        """Renders, compares, prints the table."""
        from rich.console import Console

        from ntalker_ns.evaluation import report, runs

        result = report.evaluate_heldout(runs.load(self.load_config), rest=self.rest)
        folder = self.output_dir or self.load_config.parent
        report.write_examples(folder / "heldout.png", result)
        (folder / "heldout.json").write_text(json.dumps(result.to_dict(), indent=2), "utf8")
        Console().print(report.heldout_table(result))
        print(f"Pictures: {folder / 'heldout.png'}")


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(EvaluateHeldout)))
