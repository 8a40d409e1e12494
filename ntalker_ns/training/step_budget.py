"""What of a training step the host decides before it begins; all else follows from tensors on the device."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ntalker_ns.training.transfers import DelayedScalar

REMEMBERED = 48
"""Steps whose needs are remembered."""

SPARE = 1.125
"""Room over the fullest frame of those steps: what random rays of a frame need differs by a few percent."""

LEAST, MOST = 1.03, 1.25
"""A room stays as it is while it is between so many times what the fullest frame of those steps needed: steps of the
same sizes find the memory of those before them, and can be recorded (`ntalker_ns.training.recorded_steps`)."""

GRAIN = 1024
"""Rooms are multiples of this, so that memory that was freed fits again."""


class StepPlan(NamedTuple):
    """Of one training step."""

    room: int | None = None
    """Samples that each frame has room for, see `ntalker_ns.rendering.packed_samples.march_frames`."""
    hidden: bool = False
    """Whether it learns what is behind the head's surface."""


class Planner:
    """Plans each step by what the steps before it needed."""

    def __init__(self) -> None:
        self._room = Room()

    def plan(self, rays: RayBundle, max_samples: int, occlusion_interval: int | None) -> None:
        """Gives a step its plan, as the rays' `plan`.

        Args:
            rays: equally many of each of their `frames`.
            max_samples: of a ray at most.
            occlusion_interval: what is hidden is learned in one step of so many, drawn at random; None: never.
        """
        hidden = occlusion_interval is not None and float(torch.rand(())) * occlusion_interval < 1.0
        plan: Any = StepPlan(self._room.of(_rays_per_frame(rays), max_samples), hidden)
        rays.metadata["plan"] = plan

    def note(self, rays: RayBundle, outputs: dict[str, Any]) -> None:
        """Takes what a step needed, where its frames had equal rooms.

        Args:
            rays: of the step.
            outputs: of the model.
        """
        if "fullest" in outputs:
            self._room.note(_rays_per_frame(rays), outputs["fullest"])


def _rays_per_frame(rays: RayBundle) -> int:
    return len(rays) // len(rays.metadata["frames"])


@dataclass
class _Needs:
    """Of steps with about as many rays."""

    late: DelayedScalar = field(default_factory=DelayedScalar)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """Mean samples a ray in the fullest frame of a step."""
    size: int = 0
    """Samples that a frame had room for in the last step."""


class Room:
    """How many samples the frames of a step have room for.

    Where the rays of a frame need more, the last ones lose samples, for the step or two until the host knows.
    """

    def __init__(self) -> None:
        # Patches of lips alternate with rays all over the head, and need more.
        self._needs: defaultdict[int, _Needs] = defaultdict(_Needs)

    def of(self, rays: int, most: int) -> int:
        """Samples that a frame has room for.

        Args:
            rays: of the frame.
            most: samples of a ray at most.
        """
        needs = self._needs[rays.bit_length()]
        if not needs.recent:
            return rays * most
        need = max(needs.recent) * rays
        if not LEAST * need <= needs.size <= MOST * need:
            needs.size = math.ceil(SPARE * need / GRAIN) * GRAIN
        return min(needs.size, rays * most)

    def note(self, rays: int, fullest: Int[Tensor, ""]) -> None:
        """Takes what a step needed.

        Args:
            rays: of each frame.
            fullest: samples that the rays of the fullest frame have.
        """
        needs = self._needs[rays.bit_length()]
        known = needs.late.put(fullest / rays)
        if known is not None:
            needs.recent.append(known)
