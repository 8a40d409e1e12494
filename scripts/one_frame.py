"""The first check of any build: a single frame must fit to 28 dB on the head in under a minute on two cores.

Where it does not, gradients, marching or optimiser are wrong; where it does and a whole clip fits badly, the poses are.

Example: python scripts/one_frame.py --data data/anna
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError


@dataclass
class OneFrame:
    """Fit the first frame of a data set alone and print the PSNR of its head."""

    data: Path
    """Data set."""
    method: str = "ntalker-base-small"
    """Method to train."""
    steps: int = 300
    """Training steps."""
    psnr: float = 28.0
    """The PSNR that the head must reach, dB."""

    def main(self) -> None:
        """Trains, renders, compares."""
        with tempfile.TemporaryDirectory() as folder:
            seconds, psnr = fit_one_frame(self.data, Path(folder), self.method, self.steps)
        print(f"One frame alone: {psnr:.1f} dB on the head after {self.steps} steps in {seconds:.0f} s.")
        if psnr < self.psnr:
            raise NTalkerError(f"The head of a single frame reached {psnr:.1f} dB, not {self.psnr:.1f} dB.")


def fit_one_frame(data: Path, output_dir: Path, method: str, steps: int) -> tuple[float, float]:
    """Trains on the first frame alone.

    Args:
        data: data set.
        output_dir: where the run goes.
        method: our method's name.
        steps: training steps.

    Returns:
        The seconds that set-up and training took, and the PSNR of the frame's head, dB.
    """
    from ntalker_ns import runs
    from ntalker_ns.evaluation.heldout import render
    from ntalker_ns.evaluation.metrics.regions import region_errors, region_masks, region_psnr

    config = runs.method_config(method, data=data, output_dir=output_dir, max_num_iterations=steps)
    config.pipeline.datamanager.dataparser.max_frames = 1
    config.pipeline.datamanager.dataparser.holdout = "none"
    config.pipeline.datamanager.frames_per_step = 1
    config.steps_per_eval_image = 0
    start = time.perf_counter()
    path = runs.train_config(config)
    seconds = time.perf_counter() - start
    pipeline = runs.load_run(path)
    dataset = pipeline.datamanager.eval_dataset
    item = dataset[0]
    masks = region_masks(item["labels"].numpy(), item["face_mask"].numpy())
    errors = region_errors(render(pipeline, dataset.cameras[:1]), item["image"].numpy(), masks)
    return seconds, region_psnr([errors])["head"].mean


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(OneFrame)))
