"""Held-out quality over training: the PSNR of every checkpoint that a run kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.console import progress_bar
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.heldout import render
from ntalker_ns.evaluation.metrics.regions import REGIONS, region_errors, region_masks, region_psnr
from ntalker_ns.run_folder import find_checkpoints, read_checkpoint

COLOURS = {"full": "#6b7280", "head": "#d1495b", "face": "#2a6f97", "lips": "#3f8f5f"}


@dataclass(frozen=True)
class HeldoutCurve:
    """PSNR after more and more training."""

    steps: list[int]
    """The training step that each checkpoint is named after, rising."""
    psnr: dict[str, list[float]]
    """By region, the mean over the held-out frames at each checkpoint, dB."""
    frames: int
    """Held-out frames."""

    def gap(self, region: str) -> tuple[int, float]:
        """The step at which a region was best, and how far the last checkpoint is from that, dB."""
        values = self.psnr[region]
        best = int(np.argmax(values))
        return self.steps[best], values[best] - values[-1]

    def sentence(self) -> str:
        """How far the last checkpoint is from the best one, region by region."""
        parts = []
        for region, values in self.psnr.items():
            step, gap = self.gap(region)
            distance = "the best" if step == self.steps[-1] else f"{gap:.2f} below the best, at step {step}"
            parts.append(f"{region} {values[-1]:.2f} dB ({distance})")
        return f"Last of {len(self.steps)} checkpoints, step {self.steps[-1]}: {'; '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"steps": self.steps, "psnr": self.psnr, "frames": self.frames}


def heldout_curve(pipeline: Any, folder: Path, surroundings: str = "clip") -> HeldoutCurve:
    """Renders all held-out frames with every checkpoint of a run.

    Args:
        pipeline: a loaded `TalkerPipeline` of that run, whose data set is there. It is left with the last checkpoint.
        folder: the run's nerfstudio_models.
        surroundings: what the head is composed over, see `evaluate_heldout`.

    Raises:
        NTalkerError: the run kept only one checkpoint, or the data set's frames are not there.
    """
    checkpoints = find_checkpoints(folder)
    if len(checkpoints) < 2:
        raise NTalkerError(
            f"{folder} holds a single checkpoint, which makes no curve: train with --save-only-latest-checkpoint False "
            "and --steps-per-save N."
        )
    held_out = pipeline.datamanager.eval_dataset
    held_out.require_clip()
    psnr: dict[str, list[float]] = {}
    with progress_bar() as bar:
        task = bar.add_task("Checkpoints", total=len(checkpoints) * len(held_out))
        for step, path in checkpoints.items():
            pipeline.load_pipeline(read_checkpoint(path)["pipeline"], step)
            rows = []
            for errors in frame_errors(pipeline, surroundings):
                rows.append(errors)
                bar.advance(task)
            for region, value in region_psnr(rows).items():
                psnr.setdefault(region, []).append(value.mean)
    return HeldoutCurve(list(checkpoints), psnr, len(held_out))


def frame_errors(pipeline: Any, surroundings: str) -> Iterator[dict[str, tuple[float, int]]]:
    """Squared errors of each held-out frame by region (`region_errors`), as the pipeline is now."""
    held_out = pipeline.datamanager.eval_dataset
    for index in range(len(held_out)):
        item = held_out[index]
        masks = region_masks(item["labels"].numpy(), item["face_mask"].numpy())
        picture = render(pipeline, held_out.cameras[index : index + 1], surroundings)
        yield region_errors(picture, item["image"].numpy(), masks)


def curve_picture(curve: HeldoutCurve) -> UInt8[np.ndarray, "h w 3"]:
    """A line for each region over the steps, its best checkpoint ringed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for region in _shown(curve):
        values, (best, gap) = curve.psnr[region], curve.gap(region)
        label = f"{region}: {values[-1]:.2f}, best {values[-1] + gap:.2f}"
        axes.plot(curve.steps, values, marker=".", color=COLOURS[region], label=label)
        axes.plot([best], [values[-1] + gap], "o", markersize=11, fillstyle="none", color=COLOURS[region])
    axes.set(xlabel="training step", ylabel="PSNR, dB", title=f"{curve.frames} held-out frames; ringed: the best")
    axes.set_xlim(left=0)
    axes.grid(color="#e5e7eb")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    canvas.draw()
    pixels: Float[np.ndarray, "h w 4"] = np.asarray(canvas.buffer_rgba())
    return np.ascontiguousarray(pixels[..., :3], np.uint8)


def _shown(curve: HeldoutCurve) -> Sequence[str]:
    return [region for region in REGIONS if region in curve.psnr]
