"""Loss of picture quality where networks multiply in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from rich.table import Table
from torch import Tensor

from ntalker_ns.console import track
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.data.regions import psnr
from ntalker_ns.media.frame_indices import evenly_spaced
from scripts.benchmarks.training import Training

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that networks multiply in."""


@dataclass(frozen=True)
class PrecisionSizes:
    """What is rendered."""

    sizes: tuple[int, ...] = (128, 256)
    """Longest sides of the pictures in px; the true frames are read at these sizes."""
    frames: int = 8
    """Held-out frames, evenly chosen."""


@dataclass(frozen=True)
class Loss:
    """Quality of one type's pictures, PSNR over the pixels of all frames in dB."""

    to_float32: float
    """Beside the float32 pictures, over the head."""
    worst: float
    """Largest difference to them in any channel, grey levels of 255."""
    truth: float
    """Beside the true frames."""
    truth_on_head: float
    """Beside the true frames, over the head."""


@dataclass(frozen=True)
class Precision:
    """By longest side in px, then by type."""

    losses: dict[int, dict[str, Loss]]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {str(size): {name: vars(loss) for name, loss in each.items()} for size, each in self.losses.items()}

    def table(self) -> Table:
        """A row for each size and type."""
        table = Table(title="Pictures of held-out frames in half precision, PSNR in dB")
        table.add_column("px")
        table.add_column("")
        for column in ("head, to float32", "at most off by (of 255)", "whole, to the truth", "head, to the truth"):
            table.add_column(column, justify="right")
        for size, each in self.losses.items():
            for name, loss in each.items():
                same = name == "float32"
                beside = ("-", "-") if same else (f"{loss.to_float32:.1f}", f"{loss.worst:.2f}")
                cells = (*beside, f"{loss.truth:.3f}", f"{loss.truth_on_head:.3f}")
                table.add_row(str(size) if same else "", name, *cells, end_section=name == "bfloat16")
        return table


def measure_precision(ours: Training, sizes: PrecisionSizes) -> Precision:
    """Renders held-out frames in each type.

    On the CPU half precision takes torch's layers, which multiply and sum as CUDA's matrix units do: the numbers are
    theirs up to the order of sums, the time is not.

    Args:
        ours: a trained head.
        sizes: what is rendered.
    """
    ours.pipeline.eval()
    return Precision({size: _losses(ours, size, sizes.frames) for size in sizes.sizes})


def _losses(ours: Training, size: int, frames: int) -> dict[str, Loss]:
    dataset = ours.pipeline.datamanager.eval_dataset.at_size(size)
    chosen = evenly_spaced(frames, len(dataset))
    pictures: dict[str, list[Tensor]] = {name: [] for name in TYPES}
    truths, heads = [], []
    for index in track([int(each) for each in chosen], f"{size} px"):
        item, camera = dataset[index], dataset.cameras[index : index + 1]
        truths.append(item["image"])
        heads.append(item["labels"] >= HEAD)
        for name, kind in TYPES.items():
            with _rendering_in(ours.model, kind):
                pictures[name].append(ours.model.get_outputs_for_camera(camera.to(ours.device))["rgb"].cpu())
    exact, truth, on_head = (torch.stack(each) for each in (pictures["float32"], truths, heads))
    return {name: _loss(torch.stack(found), exact, truth, on_head) for name, found in pictures.items()}


@contextmanager
def _rendering_in(model: Any, kind: torch.dtype) -> Iterator[None]:
    """Lets the head's networks multiply in a type."""
    before, model.head.field.picture_type = model.head.field.picture_type, kind
    try:
        yield
    finally:
        model.head.field.picture_type = before


def _loss(
    found: Float[Tensor, "frames h w 3"],
    exact: Float[Tensor, "frames h w 3"],
    truth: Float[Tensor, "frames h w 3"],
    on_head: Bool[Tensor, "frames h w"],
) -> Loss:
    off = found - exact
    wrong = (found.clamp(0.0, 1.0) - truth).square()
    return Loss(
        to_float32=psnr(float(off.square()[on_head].mean())),
        worst=255.0 * float(off.abs().max()),
        truth=psnr(float(wrong.mean())),
        truth_on_head=psnr(float(wrong[on_head].mean())),
    )
