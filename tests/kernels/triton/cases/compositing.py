"""Triton compositing against the padded torch reference, and its gradients against finite differences."""

from typing import Any

import pytest
import torch

from ntalker_ns.kernels.reference import compositing as reference
from ntalker_ns.kernels.triton.compositing import composite

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


# Single precision holds it, and Triton takes it in no other.
STEP = 0.75


def _samples(counts: list[int], channels: int, density: float, kind: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    total = sum(counts)
    sigma = torch.rand(total, dtype=kind) * density
    distances = 3 + torch.rand(total, dtype=kind)
    values = torch.randn(total, channels, dtype=kind)
    sigma, values, distances, ray_counts = (
        each.to(DEVICE) for each in (sigma, values, distances, torch.tensor(counts, dtype=torch.int64))
    )
    return sigma.requires_grad_(), values.requires_grad_(), distances, STEP, ray_counts


def _assert_equal(samples: Any, ends: Any = None, tolerance: float = 1e-11) -> Any:
    """Results and gradients are those of the reference, which are returned."""
    ours = composite(*samples, ray_ends=ends)
    theirs = reference.composite(*samples, ray_ends=ends)
    upstream = [torch.randn_like(each) for each in theirs]
    gradients = [torch.autograd.grad(each, samples[:2], upstream) for each in (ours, theirs)]
    for one, other in zip((*ours, *gradients[0]), (*theirs, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
    return ours


# Rays of none, one, a tile's, and several tiles' samples; more rays than a tile has.
COUNTS = [[0], [1], [32, 0, 33, 7, 1, 0, 70], [5] * 9]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
@pytest.mark.parametrize("density", [0.02, 2.0])
def test_equals_the_reference(counts, kind, tolerance, density):
    *_, weights = _assert_equal(_samples(counts, 5, density, kind), tolerance=tolerance)
    assert bool((weights == 0).any()) == (density > 1 and max(counts) > 10)


def test_samples_of_no_ray_have_no_weight():
    *samples, _ = _samples([40, 0, 7, 13], 5, 0.5)
    ends = torch.tensor([41, 41, 50, 60], device=DEVICE)
    *_, weights = _assert_equal((*samples, torch.tensor([40, 0, 7, 9], device=DEVICE)), ends)
    assert not weights[0] and not weights[41:43].any() and not weights[50].any()


def test_gradients_equal_finite_differences():
    sigma, values, *others = _samples([6, 0, 3], 2, 0.5)
    assert torch.autograd.gradcheck(lambda s, v: composite(s, v, *others), (sigma, values), fast_mode=True)


def test_small_steps_before_a_wall_are_not_lost():
    sigma = torch.tensor([0.5, 1e7, 5.0], device=DEVICE, requires_grad=True)
    values = torch.tensor([[3.0], [7.0], [1.0]], device=DEVICE)
    distances = torch.tensor([2.0, 4.0, 6.0], device=DEVICE)
    counts = torch.tensor([0, 3, 0], device=DEVICE)
    sums, accumulation, distance, thickness, weights = composite(sigma, values, distances, 1.0, counts)
    first = 1 - torch.exp(torch.tensor(-0.5))
    torch.testing.assert_close(weights.cpu(), torch.stack([first, 1 - first, torch.tensor(0.0)]))
    torch.testing.assert_close(sums[1].cpu(), (3 * first + 7 * (1 - first)).reshape(1))
    torch.testing.assert_close(
        distance.flatten().cpu(), torch.stack([first * 0, 2 * first + 4 * (1 - first), first * 0])
    )
    torch.testing.assert_close(thickness[1, 0].cpu(), 4 * first * (1 - first))
    assert accumulation.flatten().tolist()[::2] == [0, 0] and float(accumulation[1]) == pytest.approx(1)
    accumulation.sum().backward()
    assert sigma.grad is not None and torch.isfinite(sigma.grad).all()


def test_nothing_at_all():
    none = torch.zeros(0, device=DEVICE, requires_grad=True)
    counts = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    sums, *of_rays, weights = composite(none, torch.zeros(0, 3, device=DEVICE), none, STEP, counts)
    assert sums.shape == (0, 3) and weights.shape == (0,) and {each.shape for each in of_rays} == {(0, 1)}
    of_rays[0].sum().backward()
    assert none.grad is not None and none.grad.shape == (0,)


def test_nan_shows_behind_it_and_nowhere_else():
    sigma, *others = _samples([3, 3], 2, 0.5, torch.float32)
    sigma = sigma.detach()
    sigma[1] = float("nan")
    sums, *of_rays, weights = composite(sigma, *others)
    assert weights.isnan().tolist() == [False, True, True, False, False, False]
    assert [each.isnan().tolist() for each in (sums[:, 0], *(each.flatten() for each in of_rays))] == [
        [True, False]
    ] * 4
