"""Quality over training time, beside nerfacto on the same frames."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.table import Table

from ntalker_ns.console import progress_bar, track
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.data.regions import region_errors, region_psnr
from ntalker_ns.media.frame_indices import evenly_spaced
from scripts.benchmarks.frames import pixel_rays
from scripts.benchmarks.timing import timed
from scripts.benchmarks.training import Training, start_nerfacto

PEER = "nerfacto (torch)"
"""Its name in tables."""


@dataclass(frozen=True)
class CurveSizes:
    """Training time, and what is compared."""

    seconds: float | None = 120.0
    """Training time of each method after its first step; None: ours to the end of its schedule, without nerfacto."""
    points: int = 8
    """Number of measurements, evenly spaced in time or steps; measuring does not count as training time."""
    peer_rays: int = 4096
    """Rays of a step of nerfacto; 4096 is its preset."""
    frames: int = 4
    """Held-out frames."""
    pixels: int = 1024
    """Pixels of each of them that both methods are scored on."""


@dataclass(frozen=True)
class CurvePoint:
    """Quality after some training."""

    seconds: float
    """Time spent in training steps, the first one left out."""
    steps: int
    """Steps trained."""
    psnr: float
    """Over the scored pixels of the held-out frames, dB."""
    head_psnr: float
    """Over those on the head, dB."""


@dataclass(frozen=True)
class Curves:
    """Quality over time of ours and of nerfacto."""

    curves: dict[str, list[CurvePoint]]
    """By method."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {name: [vars(point) for point in points] for name, points in self.curves.items()}

    def table(self) -> Table:
        """A row for each time."""
        table = Table(title="Held-out PSNR over training time, dB: picture (head), steps")
        table.add_column("seconds", justify="right")
        for name in self.curves:
            table.add_column(name, justify="right")
        for points in zip(*self.curves.values(), strict=True):
            cells = (f"{each.psnr:.1f} ({each.head_psnr:.1f}), {each.steps:,}" for each in points)
            table.add_row(f"{points[0].seconds:.0f}", *cells)
        return table


@dataclass(frozen=True)
class HeldOut:
    """Pixels of a held-out frame that are scored."""

    index: int
    """The frame in the held-out split."""
    pixels: np.ndarray
    """(P,) indices of pixels, row by row."""
    truth: Float[torch.Tensor, "pixels 3"]
    on_head: np.ndarray
    """(P,) whether a pixel shows the head."""


def measure_curves(ours: Training, sizes: CurveSizes) -> Curves:
    """Trains ours from where it stands and nerfacto from its first step, and scores both as they go.

    Args:
        ours: a training before its first step.
        sizes: how long, and what is scored.
    """
    frames = held_out(ours.pipeline, sizes)
    if sizes.seconds is None:
        return Curves({"ours": _curve_to_end(ours, frames, sizes.points)})
    curves = {"ours": _curve(ours, frames, sizes.seconds, sizes.points, "Training ours")}
    peer = start_nerfacto(ours.config, sizes.peer_rays)
    curves[PEER] = _curve(peer, frames, sizes.seconds, sizes.points, "Training nerfacto")
    return Curves(curves)


def measure_beside_run(config: Any, pipeline: Any, sizes: CurveSizes) -> tuple[tuple[float, float], list[CurvePoint]]:
    """Trains nerfacto on the frames of a run of ours, and scores both on the same pixels.

    Args:
        config: of the loaded run; nerfacto's folder goes to its `output_dir`.
        pipeline: the loaded run.
        sizes: how long nerfacto is trained, and what is scored.

    Returns:
        PSNR of ours as it is, whole and on the head, dB; and nerfacto's points.
    """
    frames = held_out(pipeline, sizes)
    ours = scores(pipeline, frames)
    assert sizes.seconds is not None
    peer = start_nerfacto(config, sizes.peer_rays)
    return ours, _curve(peer, frames, sizes.seconds, sizes.points, "Training nerfacto")


def held_out(pipeline: Any, sizes: CurveSizes) -> list[HeldOut]:
    """Evenly chosen held-out frames, and random pixels of each."""
    dataset = pipeline.datamanager.eval_dataset
    rng = np.random.default_rng(0)
    frames = []
    for index in evenly_spaced(sizes.frames, len(dataset)):
        item = dataset[int(index)]
        image, labels = item["image"].reshape(-1, 3), item["labels"].reshape(-1).numpy()
        pixels = rng.choice(len(image), min(sizes.pixels, len(image)), replace=False)
        frames.append(HeldOut(int(index), pixels, image[torch.from_numpy(pixels)], labels[pixels] >= HEAD))
    return frames


def _curve_to_end(training: Training, frames: list[HeldOut], count: int) -> list[CurvePoint]:
    """Trains to the end of the method's schedule."""
    points, spent = [], 0.0
    training.step()
    ends = np.linspace(training.steps, training.config.max_num_iterations, count + 1).round().astype(int)[1:]
    for end in track(ends, "Training ours"):
        steps = int(end) - training.steps
        # Not synchronised in between: the host runs ahead of a GPU, as in a training.
        spent += timed(training.step, training.device, steps) * steps
        points.append(CurvePoint(spent, training.steps, *scores(training.pipeline, frames)))
    return points


def _curve(training: Training, frames: list[HeldOut], seconds: float, count: int, description: str) -> list[CurvePoint]:
    points = []
    spent = 0.0
    # It caches frames and compiles kernels, once for a machine and a data set.
    training.step()
    with progress_bar() as bar:
        task = bar.add_task(description, total=round(seconds))
        for wanted in np.linspace(0.0, seconds, count + 1)[1:]:
            while spent < wanted:
                spent += timed(training.step, training.device)
                bar.update(task, completed=min(round(spent), round(seconds)))
            points.append(CurvePoint(spent, training.steps, *scores(training.pipeline, frames)))
    return points


@torch.no_grad()
def scores(pipeline: Any, frames: list[HeldOut]) -> tuple[float, float]:
    """PSNR over the scored pixels of all frames, and over those on the head, dB.

    Args:
        pipeline: ours, which renders whole pictures, or nerfacto's, which renders the scored pixels only.
        frames: what is scored.
    """
    pipeline.eval()
    model, cameras = pipeline.model, pipeline.datamanager.eval_dataset.cameras
    rows = []
    for frame in frames:
        camera = cameras[frame.index : frame.index + 1].to(pipeline.device)
        if hasattr(model, "set_driving"):
            rgb = model.get_outputs_for_camera(camera)["rgb"].reshape(-1, 3)[torch.from_numpy(frame.pixels)]
        else:
            rgb = model(pixel_rays(camera, frame.pixels))["rgb"]
        masks = {"full": np.ones_like(frame.on_head)[None], "head": frame.on_head[None]}
        rows.append(region_errors(rgb.cpu().numpy()[None], frame.truth.numpy()[None], masks))
    found = region_psnr(rows)
    return found["full"].pooled, found["head"].pooled if "head" in found else math.nan
