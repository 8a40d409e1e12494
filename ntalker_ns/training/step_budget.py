"""How many rays and samples the next training step has.

The host decides this before a step starts; everything else in a step follows from tensors on the device.
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.training.transfers import DelayedScalar

RAY_MULTIPLE = 64
"""Numbers of rays are multiples of this, so that small changes of the estimate change nothing."""

SMOOTHING = 0.9
"""Decay of the running mean of samples per ray."""

REMEMBERED = 48
"""Steps over which the largest frame is taken."""

SPARE = 1.125
"""Capacity over the largest frame of those steps: random rays of a frame differ by a few percent."""

LEAST, MOST = 1.03, 1.25
"""A capacity is kept while it is within these multiples of the largest frame: steps of equal sizes reuse memory and can
be recorded (`ntalker_ns.training.recorded_steps`)."""

GRAIN = 1024
"""Capacities are multiples of this, so that freed memory fits again."""


class StepSizes(NamedTuple):
    """Sizes and choices of one training step."""

    capacity: int | None = None
    """Samples that each frame has memory for, see `ntalker_ns.rendering.packed_samples.march_frames`; None: exact."""
    occlusion: bool = False
    """Whether the occlusion prior is evaluated."""


@dataclass
class BudgetConfig:
    """Bounds of the number of rays in a step."""

    target_samples: int | None = None
    """Samples along all rays of a training step: the number of rays grows as more empty space is skipped. None: the
    data manager's rays_per_step throughout."""
    min_rays: int = 256
    """Fewest rays of a step when target_samples is set."""
    max_rays: int = 65536
    """Most rays of a step when target_samples is set."""

    def rays_for(self, samples_per_ray: float) -> int:
        """The number of rays whose samples come nearest to the target.

        Args:
            samples_per_ray: the mean, rays through empty space included.

        Returns:
            A multiple of 64, or the bound that it would exceed.
        """
        assert self.target_samples is not None
        wanted = self.target_samples / max(samples_per_ray, 1e-3)
        return min(max(round(wanted / RAY_MULTIPLE) * RAY_MULTIPLE, self.min_rays), self.max_rays)


@dataclass
class _Capacity:
    """Of steps with similarly many rays per frame."""

    delayed: DelayedScalar = field(default_factory=DelayedScalar)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """Mean samples per ray in the largest frame of each step."""
    size: int = 0
    """Samples per frame in the last step."""


class StepBudget:
    """Numbers of rays and samples of the next step, from those of the steps before."""

    def __init__(self, config: BudgetConfig, rays: int, stride: float = 0.0) -> None:
        """
        Args:
            config: target and bounds.
            rays: of the first step.
            stride: relative change below which the number of rays is kept.
        """
        self._config, self.stride = config, stride
        self.rays = rays
        self.samples_per_ray: float | None = None
        self._delayed = DelayedScalar()
        # By order of magnitude of the rays of a frame: lip patches alternate with usual steps and need more samples.
        self._capacities: defaultdict[int, _Capacity] = defaultdict(_Capacity)

    def sizes(self, rays_per_frame: int, max_samples: int, occlusion_interval: int | None) -> StepSizes:
        """The sizes of the next step.

        Args:
            rays_per_frame: equally many for each.
            max_samples: of a ray.
            occlusion_interval: the occlusion prior is evaluated on average every so many steps; None: never.
        """
        occlusion = occlusion_interval is not None and float(torch.rand(())) * occlusion_interval < 1.0
        return StepSizes(self._capacity(rays_per_frame, max_samples), occlusion)

    def _capacity(self, rays: int, max_samples: int) -> int:
        """Samples that a frame has memory for. Where its rays have more, the last ones lose samples, for the step or
        two until the host knows."""
        known = self._capacities[rays.bit_length()]
        if not known.recent:
            return rays * max_samples
        need = max(known.recent) * rays
        if not LEAST * need <= known.size <= MOST * need:
            known.size = math.ceil(SPARE * need / GRAIN) * GRAIN
        return min(known.size, rays * max_samples)

    def note_capacity(self, rays_per_frame: int, max_frame_samples: Int[Tensor, ""] | None) -> None:
        """Takes how many samples the largest frame of a step had; None where memory was allocated exactly."""
        if max_frame_samples is None:
            return
        known = self._capacities[rays_per_frame.bit_length()]
        value = known.delayed.put(max_frame_samples / rays_per_frame)
        if value is not None:
            known.recent.append(value)

    def note_samples(self, samples_per_ray: Float[Tensor, ""]) -> None:
        """Takes a step's mean samples per ray, and adapts the number of rays to the target."""
        if self._config.target_samples is None:
            return
        value = self._delayed.put(samples_per_ray)
        if value is not None:
            previous = value if self.samples_per_ray is None else self.samples_per_ray
            self.resume(SMOOTHING * previous + (1.0 - SMOOTHING) * value)

    def resume(self, samples_per_ray: float | None) -> None:
        """Continues from a running mean of samples per ray; None: nothing is known yet."""
        self.samples_per_ray = samples_per_ray
        if self._config.target_samples is None or samples_per_ray is None:
            return
        rays = self._config.rays_for(samples_per_ray)
        if abs(rays - self.rays) > self.stride * rays:
            self.rays = rays
