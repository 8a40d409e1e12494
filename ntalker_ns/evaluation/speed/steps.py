"""How long a training step takes, what for, and how much memory."""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile

from ntalker_ns.evaluation.peak_memory import PeakMemory, resident_gib
from ntalker_ns.evaluation.speed.timing import timed
from ntalker_ns.evaluation.speed.training import Training, start_nerfacto
from ntalker_ns.progress import track

OURS, PRESET, PEER = "ours, the same rays", "ours, rays as the preset chooses", "nerfacto (torch)"

NERFACTO_SAMPLES = 48 + 256 + 96
"""Samples of a ray at which nerfacto asks its field and its two proposal networks."""

ELSE = "everything else"
"""What neither of the parts takes; also the time in which nothing was computed."""

CPU_PARTS: dict[str, tuple[str, ...]] = {
    "matrix products": (
        *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
        *("aten::convolution", "aten::convolution_backward", "_RunMLP", "_RunMLPBackward"),
    ),
    "encodings": ("_Encode", "_EncodeBackward"),
    "compositing": ("_Composite", "_CompositeBackward"),
}
"""Operations, with all that they call, by the names that torch's profiler gives them. Fused networks count as matrix
products with their biases and activations; the torch reference of the hash grids counts as everything else."""

CUDA_PARTS: dict[str, tuple[str, ...]] = {
    "matrix products": ("gemm", "cutlass", "xmma", "nvjet", "mlp_forward", "mlp_backward"),
    "encodings": ("hash_grid_",),
    "compositing": ("composite_",),
}
"""Parts of the names of kernels on a CUDA device."""


@dataclass(frozen=True)
class StepSizes:
    """How steps are measured."""

    rays: int = 4096
    """Rays of a step, ours and nerfacto's."""
    steps: int = 20
    """Timed steps of ours."""
    peer_steps: int = 3
    """Timed steps of nerfacto."""


@dataclass(frozen=True)
class StepSpeed:
    """One way to train."""

    seconds: float
    """Of a step, the median."""
    rays: float
    """Of a step."""
    samples: float
    """Of a step: places where a field was asked."""
    peak_gib: float
    """Peak memory of the process, or of the GPU's tensors, GiB."""
    added_gib: float
    """The same beyond what was taken before the training was there, GiB."""

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        rates = {"rays_per_second": self.rays / self.seconds, "samples_per_second": self.samples / self.seconds}
        return {**vars(self), **rates}


@dataclass(frozen=True)
class StepSpeeds:
    """Steps of ours beside nerfacto's."""

    speeds: dict[str, StepSpeed]
    """By way to train."""
    shares: dict[str, float]
    """Of the time of a step of ours, by what it goes to."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "steps": {name: speed.to_dict() for name, speed in self.speeds.items()},
            "shares_of_our_step": self.shares,
            "times_the_rays_per_second_of_nerfacto": self.ratios(),
        }

    def ratios(self) -> dict[str, float]:
        """How many times as many rays a second as nerfacto."""
        peer = self.speeds[PEER]
        return {name: speed.rays / speed.seconds / (peer.rays / peer.seconds) for name, speed in self.speeds.items()}

    def table(self) -> Group:
        """Steps, and what ours go to."""
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
        parts = Table(title="Where our step's time goes")
        for name in self.shares:
            parts.add_column(name, justify="right")
        parts.add_row(*(f"{share:.0%}" for share in self.shares.values()))
        return Group(table, parts)


def measure_steps(ours: Training, sizes: StepSizes) -> StepSpeeds:
    """Times steps of a training of ours, as its preset would take them and with a number of rays, and of nerfacto.

    Args:
        ours: trained far enough that empty space is known.
        sizes: how many rays and steps.
    """
    speeds = {PRESET: _ours(ours, sizes.steps, "Steps of the preset")}
    shares = step_shares(ours, sizes.steps)
    pipeline = ours.pipeline
    target, pipeline.config.target_samples = pipeline.config.target_samples, None
    rays = pipeline.datamanager.rays_per_step
    pipeline.datamanager.set_rays_per_step(sizes.rays)
    speeds[OURS] = _ours(ours, sizes.steps, "Steps of ours")
    pipeline.config.target_samples = target
    pipeline.datamanager.set_rays_per_step(rays)
    speeds[PEER] = _nerfacto(ours, sizes)
    return StepSpeeds({name: speeds[name] for name in (OURS, PRESET, PEER)}, shares)


def _ours(training: Training, steps: int, description: str) -> StepSpeed:
    before = _taken(training)
    memory = PeakMemory(gpu=training.device.type == "cuda")
    training.step()
    seconds, rays, samples = [], [], []
    for _ in track(range(steps), description):
        rays.append(training.pipeline.datamanager.get_train_rays_per_batch())
        metrics: dict[str, Any] = {}
        seconds.append(timed(lambda found=metrics: found.update(training.step()), training.device))
        samples.append(float(metrics["samples_per_ray"]) * rays[-1])
    peak = memory.gib()
    middle = statistics.median(seconds)
    return StepSpeed(middle, statistics.fmean(rays), statistics.fmean(samples), peak, max(peak - before, 0.0))


def _nerfacto(ours: Training, sizes: StepSizes) -> StepSpeed:
    before = _taken(ours)
    memory = PeakMemory(gpu=ours.device.type == "cuda")
    training = start_nerfacto(ours.config, sizes.rays)
    training.step()
    seconds = [timed(training.step, ours.device) for _ in track(range(sizes.peer_steps), "Steps of nerfacto")]
    rays = training.pipeline.datamanager.get_train_rays_per_batch()
    peak = memory.gib()
    return StepSpeed(statistics.median(seconds), rays, rays * NERFACTO_SAMPLES, peak, max(peak - before, 0.0))


def _taken(training: Training) -> float:
    """Memory that is taken now, GiB."""
    import torch

    if training.device.type == "cuda":
        return torch.cuda.memory_allocated(training.device) / 2**30
    return resident_gib()


def step_shares(training: Training, steps: int) -> dict[str, float]:
    """What the time of training steps goes to, by torch's profiler, which itself slows them a little.

    Args:
        training: whose steps.
        steps: how many.

    Returns:
        Shares of the time by part, which add up to 1.
    """
    on_cuda = training.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiler:
        total = timed(training.step, training.device, steps) * steps
    events = profiler.events() or []
    parts = _cuda_seconds(events) if on_cuda else _cpu_seconds(events)
    shares = {name: seconds / total for name, seconds in parts.items()}
    return {**shares, ELSE: max(1.0 - sum(shares.values()), 0.0)}


def _cpu_seconds(events: Iterable[Any]) -> dict[str, float]:
    """Time in operations of each part, those within another of them counted with it."""
    part_of = {name: part for part, names in CPU_PARTS.items() for name in names}
    seconds = dict.fromkeys(CPU_PARTS, 0.0)
    for event in events:
        if event.name in part_of and not any(parent.name in part_of for parent in _parents(event)):
            seconds[part_of[event.name]] += 1e-6 * event.time_range.elapsed_us()
    return seconds


def _parents(event: Any) -> Iterator[Any]:
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event


def _cuda_seconds(events: Iterable[Any]) -> dict[str, float]:
    """Time in kernels of each part."""
    seconds = dict.fromkeys(CUDA_PARTS, 0.0)
    for event in events:
        if event.device_type != DeviceType.CUDA:
            continue
        part = next((part for part, names in CUDA_PARTS.items() if any(name in event.name for name in names)), None)
        if part is not None:
            seconds[part] += 1e-6 * event.time_range.elapsed_us()
    return seconds
