"""What the host decides of a step: chances, and rooms that follow what steps needed."""

from typing import Any

import pytest
import torch

from ntalker_ns.training import transfers
from ntalker_ns.training.step_budget import GRAIN, Planner, StepPlan


class Rays:
    def __init__(self, rays: int, frames: int) -> None:
        self.metadata: dict[str, Any] = {"frames": list(range(frames))}
        self._rays = rays

    def __len__(self) -> int:
        return self._rays


def plan(planner: Planner, rays: int = 64, frames: int = 4, interval: int | None = None) -> StepPlan:
    bundle: Any = Rays(rays, frames)
    planner.plan(bundle, 32, interval)
    return bundle.metadata["plan"]


def test_hidden_points_are_drawn_in_a_share_of_steps() -> None:
    torch.manual_seed(0)
    planner = Planner()
    drawn = sum(plan(planner, interval=4).hidden for _ in range(400))
    assert 70 < drawn < 130
    assert all(plan(planner, interval=1).hidden for _ in range(20))
    assert not any(plan(planner).hidden for _ in range(20))


def test_rooms_are_those_of_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    planner, rays = Planner(), 8 * GRAIN
    bundle: Any = Rays(4 * rays, 4)
    assert plan(planner, 4 * rays).room == 32 * rays
    planner.note(bundle, {})
    for _ in range(3):
        planner.note(bundle, {"fullest": torch.tensor(10 * rays)})
    assert plan(planner, 4 * rays).room == 90 * GRAIN  # 8 x 10 and an eighth
