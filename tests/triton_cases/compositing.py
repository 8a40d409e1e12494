"""Triton compositing against the padded torch reference, and its gradients against finite differences."""

import pytest
import torch

from ntalker_ns.rendering.compositing import composite_torch
from ntalker_ns.rendering.triton_compositing import composite

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _samples(counts: list[int], channels: int, density: float, kind: torch.dtype = torch.float64):
    torch.manual_seed(0)
    total = sum(counts)
    sigma = torch.rand(total, dtype=kind) * density
    deltas = 0.5 + torch.rand(total, dtype=kind)
    values = torch.randn(total, channels, dtype=kind)
    return tuple(each.to(DEVICE) for each in (sigma, deltas, values, torch.tensor(counts, dtype=torch.int64)))


# Rays of none, one, a tile's, and several tiles' samples; more rays than a tile has.
COUNTS = [[0], [1], [32, 0, 33, 7, 1, 0, 70], [5] * 9]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("density", [0.02, 2.0])
def test_equals_the_reference(counts, kind, tolerance, density):
    sigma, deltas, values, ray_counts = _samples(counts, 5, density, kind)
    sigma.requires_grad_()
    values.requires_grad_()
    sums, accumulation, weights = composite(sigma, deltas, values, ray_counts)
    expected = composite_torch(sigma, deltas, values, ray_counts)
    theirs = (expected.values, expected.accumulation.squeeze(1), expected.weights)
    assert bool((weights == 0).any()) == (density > 1 and max(counts) > 10)
    upstream = [torch.randn_like(each) for each in theirs]
    ours = (sums, accumulation, weights)
    gradients = [torch.autograd.grad(each, (sigma, values), upstream) for each in (ours, theirs)]
    for one, other in zip((*ours, *gradients[0]), (*theirs, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=10 * tolerance)


def test_what_is_of_no_ray_weighs_nothing():
    sigma, deltas, values, counts = _samples([40, 0, 7, 13], 5, 0.5)
    ends = torch.tensor([41, 41, 50, 60], device=DEVICE)
    counts = torch.tensor([40, 0, 7, 9], device=DEVICE)
    sigma.requires_grad_()
    values.requires_grad_()
    results = composite(sigma, deltas, values, counts, ends)
    expected = composite_torch(sigma, deltas, values, counts, ends)
    theirs = (expected.values, expected.accumulation.squeeze(1), expected.weights)
    assert not results[2][0] and not results[2][41:43].any() and not results[2][50].any()
    upstream = [torch.randn_like(each) for each in theirs]
    gradients = [torch.autograd.grad(each, (sigma, values), upstream) for each in (results, theirs)]
    for one, other in zip((*results, *gradients[0]), (*theirs, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_gradients_equal_finite_differences():
    sigma, deltas, values, counts = _samples([6, 0, 3], 2, 0.5)
    inputs = (sigma.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda s, v: composite(s, deltas, v, counts), inputs, fast_mode=True)


def test_small_steps_before_a_wall_are_not_lost():
    sigma = torch.tensor([0.5, 1e7, 5.0], device=DEVICE, requires_grad=True)
    values = torch.tensor([[3.0], [7.0], [1.0]], device=DEVICE)
    counts = torch.tensor([0, 3, 0], device=DEVICE)
    sums, accumulation, weights = composite(sigma, torch.ones(3, device=DEVICE), values, counts)
    first = 1 - torch.exp(torch.tensor(-0.5))
    torch.testing.assert_close(weights.cpu(), torch.stack([first, 1 - first, torch.tensor(0.0)]))
    torch.testing.assert_close(sums[1].cpu(), (3 * first + 7 * (1 - first)).reshape(1))
    assert accumulation.tolist()[::2] == [0, 0] and float(accumulation[1]) == pytest.approx(1)
    accumulation.sum().backward()
    assert sigma.grad is not None and torch.isfinite(sigma.grad).all()


def test_nothing_at_all():
    none = torch.zeros(0, device=DEVICE, requires_grad=True)
    counts = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    sums, accumulation, weights = composite(none, none, torch.zeros(0, 3, device=DEVICE), counts)
    assert sums.shape == (0, 3) and accumulation.shape == (0,) and weights.shape == (0,)
    accumulation.sum().backward()
    assert none.grad is not None and none.grad.shape == (0,)


def test_what_is_not_a_number_shows_behind_it_and_nowhere_else():
    sigma, deltas, values, counts = _samples([3, 3], 2, 0.5, torch.float32)
    sigma[1] = float("nan")
    sums, accumulation, weights = composite(sigma, deltas, values, counts)
    assert weights.isnan().tolist() == [False, True, True, False, False, False]
    assert sums.isnan().all(dim=1).tolist() == accumulation.isnan().tolist() == [True, False]
