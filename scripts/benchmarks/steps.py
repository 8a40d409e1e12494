"""Time, its breakdown, and memory of a training step."""

import statistics
from dataclasses import dataclass

import torch
from rich.console import Group
from rich.table import Table
from torch import Tensor

from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.peak_memory import PeakMemory, resident_gib
from scripts.benchmarks.breakdown import breakdown_table, time_breakdown
from scripts.benchmarks.timing import CUDA_BATCH, synchronisations, timed
from scripts.benchmarks.training import Training, start_nerfacto

OURS, PRESET, PEER = "ours, the same rays", "ours, rays as the preset chooses", "nerfacto (torch)"
RECORDED = "ours, recorded"
"""With the preset's rays, on CUDA."""

UNTIL_RECORDED = 256
"""Steps after which all but rare kinds of steps have been recorded."""

NERFACTO_SAMPLES = 48 + 256 + 96
"""Queries of nerfacto's field and its two proposal networks per ray."""


@dataclass(frozen=True)
class StepSizes:
    """How steps are measured."""

    rays: int = 4096
    """Rays of a step, ours and nerfacto's; halved for nerfacto until they fit into a GPU's memory."""
    steps: int = 20
    """Timed steps of ours."""
    peer_steps: int = 3
    """Timed steps of nerfacto."""


@dataclass(frozen=True)
class StepSpeed:
    """One way to train."""

    seconds: float
    """Of a step: the mean of ours, whose sizes vary; the median of nerfacto's, which are few."""
    rays: float
    """Of a step."""
    samples: float
    """Of a step: field queries."""
    peak_gib: float
    """Peak memory of the process, or of the GPU's tensors, GiB."""
    added_gib: float
    """The same less what was allocated before the training, GiB."""

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        rates = {"rays_per_second": self.rays / self.seconds, "samples_per_second": self.samples / self.seconds}
        return {**vars(self), **rates}


@dataclass(frozen=True)
class StepSpeeds:
    """Steps of ours beside nerfacto's."""

    speeds: dict[str, StepSpeed]
    """By way to train."""
    breakdown: dict[str, float]
    """Fractions of the time of a step of ours, by part."""
    synchronisations: float | None = None
    """Mean number of host-device synchronisations in a step of ours; None without a GPU."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "steps": {name: speed.to_dict() for name, speed in self.speeds.items()},
            "breakdown_of_our_step": self.breakdown,
            "synchronisations_of_our_step": self.synchronisations,
            "times_the_rays_per_second_of_nerfacto": self.ratios(),
        }

    def ratios(self) -> dict[str, float]:
        """How many times as many rays a second as nerfacto."""
        peer = self.speeds[PEER]
        return {name: speed.rays / speed.seconds / (peer.rays / peer.seconds) for name, speed in self.speeds.items()}

    def table(self) -> Group:
        """Steps, and the breakdown of ours."""
        table = Table(title="A training step (times the rays a second of nerfacto)")
        for column in ("", "rays", "ms", "rays/s", "samples/s", "peak GiB (added)"):
            table.add_column(column, justify="right" if column else "left")
        for name, speed in self.speeds.items():
            table.add_row(
                name,
                f"{speed.rays:,.0f}",
                f"{1e3 * speed.seconds:,.0f}",
                f"{speed.rays / speed.seconds:,.0f} ({self.ratios()[name]:.1f}x)",
                f"{speed.samples / speed.seconds:,.0f}",
                f"{speed.peak_gib:.2f} ({speed.added_gib:.2f})",
            )
        if self.synchronisations is not None:
            table.caption = f"A step of ours synchronises host and GPU {self.synchronisations:.2f} times."
        return Group(table, breakdown_table("Where our step's time goes", self.breakdown))


def measure_steps(ours: Training, sizes: StepSizes) -> StepSpeeds:
    """Times training steps: ours with the preset's rays and with a fixed number, and nerfacto's.

    Args:
        ours: trained far enough for the occupancy grid to know empty space.
        sizes: how many rays and steps.
    """
    speeds = {PRESET: _ours(ours, sizes.steps, "Steps of the preset")}
    breakdown = time_breakdown(ours.step, ours.device, sizes.steps)
    count = synchronisations(ours.step, sizes.steps) if ours.device.type == "cuda" else None
    pipeline = ours.pipeline
    target, pipeline.config.target_samples = pipeline.config.target_samples, None
    rays, pipeline.budget.rays = pipeline.budget.rays, sizes.rays
    speeds[OURS] = _ours(ours, sizes.steps, "Steps of ours")
    pipeline.config.target_samples = target
    pipeline.budget.rays = rays
    if ours.device.type == "cuda":
        speeds[RECORDED] = _recorded(ours, sizes.steps)
    speeds[PEER] = fitting_nerfacto(ours, sizes)
    return StepSpeeds(
        {name: speeds[name] for name in (OURS, PRESET, RECORDED, PEER) if name in speeds}, breakdown, count
    )


def _recorded(training: Training, steps: int) -> StepSpeed:
    training.pipeline.record_steps(True)
    try:
        training.run(UNTIL_RECORDED, "Recording steps")
        return _ours(training, steps, "Recorded steps")
    finally:
        training.pipeline.record_steps(False)


def _ours(training: Training, steps: int, description: str) -> StepSpeed:
    before = _taken(training)
    memory = PeakMemory(gpu=training.device.type == "cuda")
    training.step()
    rays: list[int] = []
    samples: list[Tensor] = []

    def step() -> None:
        rays.append(training.pipeline.datamanager.get_train_rays_per_batch())
        samples.append(training.step()["samples_per_ray"] * rays[-1])

    # Without synchronisation the host runs a few steps ahead of the GPU.
    batch = CUDA_BATCH if training.device.type == "cuda" else 1
    seconds = [timed(step, training.device, batch) for _ in track(range(max(steps // batch, 1)), description)]
    peak = memory.gib()
    mean_samples = statistics.fmean(map(float, samples))
    return StepSpeed(statistics.fmean(seconds), statistics.fmean(rays), mean_samples, peak, max(peak - before, 0.0))


def fitting_nerfacto(ours: Training, sizes: StepSizes) -> StepSpeed:
    """nerfacto with as many rays a step as fit the GPU's memory, at most `sizes.rays`.

    Args:
        ours: the training it is compared with.
        sizes: rays and timed steps.

    Raises:
        NTalkerError: a single ray does not fit.
    """
    rays = sizes.rays
    while rays:
        try:
            return nerfacto_speed(ours, rays, sizes.peer_steps)
        except torch.cuda.OutOfMemoryError:
            # Within the handler the traceback would still hold what did not fit.
            rays //= 2
        torch.cuda.empty_cache()
    raise NTalkerError("nerfacto does not fit this GPU's memory, with however few rays a step.")


def nerfacto_speed(ours: Training, rays: int, steps: int) -> StepSpeed:
    """Time and memory of nerfacto's steps.

    Args:
        ours: the training it is compared with, whose data it gets.
        rays: of a step.
        steps: timed steps; one more is taken before.
    """
    before = _taken(ours)
    memory = PeakMemory(gpu=ours.device.type == "cuda")
    training = start_nerfacto(ours.config, rays)
    training.step()
    seconds = [timed(training.step, ours.device) for _ in track(range(steps), "Steps of nerfacto")]
    peak = memory.gib()
    return StepSpeed(statistics.median(seconds), rays, rays * NERFACTO_SAMPLES, peak, max(peak - before, 0.0))


def _taken(training: Training) -> float:
    """Memory that is allocated now, GiB."""
    if training.device.type == "cuda":
        return torch.cuda.memory_allocated(training.device) / 2**30
    return resident_gib()
