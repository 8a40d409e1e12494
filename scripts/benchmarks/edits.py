"""Time of an edit, part by part, and how well the head learns the edited frames in so many steps."""

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from ntalker_ns import runs
from ntalker_ns.data.regions import psnr
from ntalker_ns.editing.plan import EditConfig
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.media.pixels import from_uint8
from scripts.benchmarks.timing import synchronize

WARM_UP = 8
"""First steps of each kind, which compile kernels and do not count."""


@dataclass(frozen=True)
class EditSizes:
    """The edits that are measured."""

    method: str = "ntalker-edit"
    """Edit method."""
    editor: str = "filter"
    """Editor, by the name of `ns-train ntalker-edit`: filter needs no weights."""
    instruction: str = "Turn the person into a bronze statue"
    """Instruction."""
    schedules: tuple[tuple[int, int], ...] = ((3, 1),)
    """Epochs on large and on lip patches of each measured edit; an epoch is one step for each frame."""
    num_frames: int = 200
    """N, edited frames; at most those of the clip."""
    options: tuple[str, ...] = ("pipeline.model.perceptual=efficientnet",)
    """Further options, PATH=VALUE, of numbers, True and False."""
    scored_frames: int = 12
    """Edited frames that the edited head is compared with."""


@dataclass(frozen=True)
class EditSpeed:
    """One edit."""

    epochs: tuple[int, int]
    """On large and on lip patches."""
    frames: int
    """N."""
    seconds: float
    """In all, start and end included."""
    large_step: float
    """Seconds of a step on a large patch; the median."""
    lip_step: float
    """Seconds of a step on a lip patch; the median."""
    update_frame: float
    """Seconds to render, edit and store one frame in an update."""
    psnr: float
    """Of the edited head to the edited frames, dB."""
    unedited_psnr: float
    """Of the unedited head to them, dB."""

    def whole(self, plan: EditConfig) -> float:
        """Seconds of an edit of another length by these times.

        Args:
            plan: its frames, updates and epochs.
        """
        steps = plan.epochs * self.large_step + plan.lip_epochs * self.lip_step
        return plan.frames * (steps + plan.updates * self.update_frame)


@dataclass(frozen=True)
class EditSpeeds:
    """Edits with different schedules."""

    speeds: list[EditSpeed]
    paper: EditConfig = field(default_factory=EditConfig)
    """The paper's schedule."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"edits": [{**vars(each), "paper_seconds": each.whole(self.paper)} for each in self.speeds]}

    def table(self) -> Table:
        """A row for each schedule."""
        table = Table(title="Edits: time by part, and PSNR to the edited frames")
        columns = ("epochs, lips", "frames", "s in all", "ms a step", "on lips", "ms a frame of an update", "dB")
        for column in (*columns, "unedited dB", "paper's schedule, min"):
            table.add_column(column, justify="right")
        for each in self.speeds:
            times = (f"{1e3 * value:.1f}" for value in (each.large_step, each.lip_step, each.update_frame))
            quality = (f"{each.psnr:.2f}", f"{each.unedited_psnr:.2f}", f"{each.whole(self.paper) / 60:.1f}")
            table.add_row(
                f"{each.epochs[0]}, {each.epochs[1]}", str(each.frames), f"{each.seconds:.0f}", *times, *quality
            )
        return table


def measure_edits(base: Path, output_dir: Path, device: torch.device, sizes: EditSizes) -> EditSpeeds:
    """Edits a head with each schedule.

    Args:
        base: the head's config.yml.
        output_dir: where the edited runs go.
        device: where they are trained.
        sizes: what is measured.

    Raises:
        NTalkerError: there is no such run, or an option cannot be used.
    """
    return EditSpeeds([_measure(base, output_dir, device, sizes, epochs) for epochs in sizes.schedules])


def _measure(
    base: Path, output_dir: Path, device: torch.device, sizes: EditSizes, epochs: tuple[int, int]
) -> EditSpeed:
    options: dict[str, Any] = {
        "editor": sizes.editor,
        "edit.num_frames": sizes.num_frames,
        "edit.epochs": epochs[0],
        "edit.lip_epochs": epochs[1],
        **dict(map(_option, sizes.options)),
    }
    fields = {"base": base.resolve(), "output_dir": output_dir, "instruction": sizes.instruction}
    config = runs.configured(sizes.method, options, **fields)
    config.machine.device_type = device.type
    begin = time.perf_counter()
    runs.prepare(config)
    torch.manual_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    clock = StepClock(device)
    trainer.train_iteration = clock.around(trainer.train_iteration)
    trainer.train()
    synchronize(device)
    seconds = time.perf_counter() - begin
    lip_start = trainer.dataset_update.plan.lip_start
    updates = trainer.dataset_update.plan.config.updates
    score, unedited = _scores(trainer, sizes.scored_frames)
    return EditSpeed(
        epochs,
        sizes.num_frames,
        seconds,
        _median(clock.seconds[WARM_UP:lip_start]),
        _median(clock.seconds[lip_start + WARM_UP :]),
        clock.between / (sizes.num_frames * updates),
        score,
        unedited,
    )


class StepClock:
    """Times the steps of a trainer, and what it does between them."""

    def __init__(self, device: torch.device) -> None:
        """
        Args:
            device: of the trainer.
        """
        self._device = device
        self._end: float | None = None
        self.seconds: list[float] = []
        """Of each step."""
        self.between = 0.0
        """Seconds between steps: dataset updates, checkpoints."""

    def around(self, step: Any) -> Any:
        """The same function, timed."""
        created = time.perf_counter()

        def timed_step(number: int) -> Any:
            synchronize(self._device)
            begin = time.perf_counter()
            self.between += begin - (created if self._end is None else self._end)
            result = step(number)
            synchronize(self._device)
            self._end = time.perf_counter()
            self.seconds.append(self._end - begin)
            return result

        return timed_step


def _option(text: str) -> tuple[str, Any]:
    """PATH=VALUE as a path and a number or truth value."""
    path, _, value = text.partition("=")
    words: dict[str, Any] = {"True": True, "False": False}
    if value in words:
        return path, words[value]
    try:
        return path, int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError as error:
        raise NTalkerError(f"'{text}' is no option: write PATH=NUMBER, PATH=True or PATH=False.") from error


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


@torch.no_grad()
def _scores(trainer: Any, count: int) -> tuple[float, float]:
    """PSNR of the edited and of the unedited head to the edited frames, dB."""
    trainer.pipeline.eval()
    frames = trainer.pipeline.supervision.frames
    chosen = evenly_spaced(min(count, len(frames)), len(frames))
    edited = from_uint8(frames.edited[chosen])
    rendered = [trainer.render(frames.cameras[int(i) : int(i) + 1])["rgb"].cpu().numpy() for i in chosen]
    errors = (np.stack(rendered) - edited, from_uint8(frames.unedited[chosen]) - edited)
    first, second = (float(psnr(np.mean(each**2))) for each in errors)
    return first, second
