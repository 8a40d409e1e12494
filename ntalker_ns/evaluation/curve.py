"""Held-out quality over training: the PSNR of every checkpoint that a run kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.console import progress_bar
from ntalker_ns.data.regions import REGIONS, region_psnr
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.heldout import frame_errors
from ntalker_ns.evaluation.options import Surroundings
from ntalker_ns.evaluation.report.write import write_text
from ntalker_ns.media.contact_sheet import write_picture
from ntalker_ns.run_folder import find_checkpoints, read_checkpoint
from ntalker_ns.runs import load_run

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
        """How far the last checkpoint is from the best one, by region."""
        parts = []
        for region, values in self.psnr.items():
            step, gap = self.gap(region)
            distance = "the best" if step == self.steps[-1] else f"{gap:.2f} below the best, at step {step}"
            parts.append(f"{region} {values[-1]:.2f} dB ({distance})")
        return f"Last of {len(self.steps)} checkpoints, step {self.steps[-1]}: {'; '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"steps": self.steps, "psnr": self.psnr, "frames": self.frames}


def heldout_curve(pipeline: Any, folder: Path, surroundings: Surroundings = "clip") -> HeldoutCurve:
    """Scores all held-out frames with every checkpoint of a run.

    Args:
        pipeline: a loaded `TalkerPipeline` of that run, whose data set is there. It is left with the last checkpoint.
        folder: the run's nerfstudio_models.
        surroundings: what the head is composited over.

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


def write_curve(load_config: Path, folder: Path, name: str, surroundings: Surroundings = "clip") -> HeldoutCurve:
    """Scores all checkpoints of a run and writes NAME-curve.png and NAME-curve.json.

    Args:
        load_config: the run's config.yml; its data set must be there.
        folder: where the files go.
        name: what they begin with.
        surroundings: what the head is composited over.

    Raises:
        NTalkerError: it is no run, it kept only one checkpoint, or the data set's frames are not there.
    """
    curve = heldout_curve(load_run(load_config), load_config.parent / "nerfstudio_models", surroundings)
    write_picture(folder / f"{name}-curve.png", curve_picture(curve))
    write_text(folder / f"{name}-curve.json", json.dumps(curve.to_dict(), indent=1))
    return curve


def curve_picture(curve: HeldoutCurve) -> UInt8[np.ndarray, "h w 3"]:
    """A line for each region over the steps, its best checkpoint circled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for region in (name for name in REGIONS if name in curve.psnr):
        values, (best, gap) = curve.psnr[region], curve.gap(region)
        label = f"{region}: {values[-1]:.2f}, best {values[-1] + gap:.2f}"
        axes.plot(curve.steps, values, marker=".", color=COLOURS[region], label=label)
        axes.plot([best], [values[-1] + gap], "o", markersize=11, fillstyle="none", color=COLOURS[region])
    axes.set(xlabel="training step", ylabel="PSNR, dB", title=f"{curve.frames} held-out frames; circled: the best")
    axes.set_xlim(left=0)
    axes.grid(color="#e5e7eb")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    canvas.draw()
    pixels: Float[np.ndarray, "h w 4"] = np.asarray(canvas.buffer_rgba())
    return np.ascontiguousarray(pixels[..., :3], np.uint8)
