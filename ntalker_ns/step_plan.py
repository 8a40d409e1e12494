"""What of a training step the host decides before it begins; all else follows from tensors on the device."""

from typing import Any, NamedTuple

import torch
from nerfstudio.cameras.rays import RayBundle

from ntalker_ns.frame_samples import Room


class StepPlan(NamedTuple):
    """Of one training step."""

    room: int | None = None
    """Samples that each frame has room for, see `ntalker_ns.frame_samples.march_frames`."""
    hidden: bool = False
    """Whether it learns what is behind the head's surface."""


class Planner:
    """Plans each step by what the steps before it needed."""

    def __init__(self) -> None:
        self._room = Room()

    def plan(self, rays: RayBundle, max_samples: int, hidden_interval: int | None) -> None:
        """Gives a step its plan, as the rays' `plan`.

        Args:
            rays: equally many of each of their `frames`.
            max_samples: of a ray at most.
            hidden_interval: what is hidden is learned in one step of so many, drawn at random; None: never.
        """
        hidden = hidden_interval is not None and float(torch.rand(())) * hidden_interval < 1.0
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
