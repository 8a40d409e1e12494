"""A head's held-out frames against the true ones and two baselines: a table, and a report to look at.

python scripts/examples/evaluate_head.py outputs/anna/ntalker-base/TIME/config.yml report
"""

import sys
from pathlib import Path

from rich.console import Console

from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.evaluate import evaluate
from ntalker_ns.evaluation.metrics.catalogue import PSNR
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions
from ntalker_ns.evaluation.report.write import table, write_report


def main(config: str, folder: str) -> dict[str, float]:
    """Returns the head's PSNR by region, composited over the true torso and background."""
    frames = FrameOptions(surroundings="clip")
    found = evaluate([Entry("head", Path(config))], MetricOptions(), frames=frames, baselines=True, metrics=PSNR)
    Console().print(table(found))
    write_report(Path(folder), found)
    return found.row("head").scores.values


if __name__ == "__main__":
    main(*sys.argv[1:3])
