"""Numbers of rays follow the samples; capacities follow the largest frame."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.training import transfers
from ntalker_ns.training.step_budget import GRAIN, BudgetConfig, StepBudget


def budget(**options: int) -> StepBudget:
    return StepBudget(BudgetConfig(**options), rays=256)


def test_the_occlusion_prior_is_evaluated_in_a_fraction_of_steps() -> None:
    torch.manual_seed(0)
    steps = budget()
    assert 70 < sum(steps.sizes(16, 32, 4).occlusion for _ in range(400)) < 130
    assert all(steps.sizes(16, 32, 1).occlusion for _ in range(20))
    assert not any(steps.sizes(16, 32, None).occlusion for _ in range(20))


def test_capacities_follow_the_largest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    steps, rays = budget(), 8 * GRAIN
    steps.note_capacity(rays, None)
    assert steps.sizes(rays, 32, None).capacity == 32 * rays
    for _ in range(3):
        steps.note_capacity(rays, torch.tensor(10 * rays))
    assert steps.sizes(rays, 32, None).capacity == 90 * GRAIN  # 8 x 10 and an eighth


@given(
    target=st.integers(1, 10**6),
    samples=st.floats(0.01, 200.0),
    low=st.integers(1, 300),
    high=st.integers(301, 10**5),
)
def test_rays_stay_within_bounds_and_hit_the_target(target: int, samples: float, low: int, high: int):
    rays = BudgetConfig(target, low, high).rays_for(samples)
    assert low <= rays <= high
    if low < rays < high:
        assert rays % 64 == 0
        assert abs(rays * samples - target) <= 32 * samples + 1e-6 * target


def test_rays_through_empty_space_are_as_many_as_allowed():
    assert BudgetConfig(40_000, 64, 8192).rays_for(0.0) == 8192


def test_rays_follow_the_samples():
    steps = budget(target_samples=10_000, min_rays=64, max_rays=4096)
    for samples, rays in ((4.0, 2496), (20.0, 512)):  # 10,000 / 4, to the nearest 64
        for _ in range(60):
            steps.note_samples(torch.tensor(samples))
        assert steps.rays == rays
    other = budget(target_samples=10_000, min_rays=64, max_rays=4096)
    other.resume(steps.samples_per_ray)
    assert other.rays == 512


def test_rays_follow_in_strides_where_steps_are_recorded() -> None:
    steps = StepBudget(BudgetConfig(40_000), rays=256, stride=0.08)
    found = []
    for samples in (4.0, 4.3, 4.5):
        steps.resume(samples)
        found.append(steps.rays)
    assert found == [9_984, 9_984, 8_896]


def test_without_a_target_the_rays_stay() -> None:
    steps = budget()
    steps.note_samples(torch.tensor(3.0))
    steps.resume(4.0)
    assert steps.rays == 256
