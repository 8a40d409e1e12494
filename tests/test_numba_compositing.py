"""Fused compositing against a loop over each ray in double precision."""

import math

import numpy as np
import pytest
import torch

from ntalker_ns.rendering.numba_compositing import MIN_TRANSMITTANCE, composite


def _composite_by_loop(density, deltas, values, ray_counts):
    """Python numbers, one sample after another."""
    sums, accumulation, weights = [], [], []
    first = 0
    for count in ray_counts.tolist():
        optical_depth, total, summed = 0.0, 0.0, [0.0] * values.shape[1]
        for i in range(first, first + count):
            transmittance = math.exp(-optical_depth)
            step = float(density[i]) * float(deltas[i])
            weight = transmittance * (1 - math.exp(-step)) if transmittance >= MIN_TRANSMITTANCE else 0.0
            summed = [one + weight * float(value) for one, value in zip(summed, values[i], strict=True)]
            optical_depth, total = optical_depth + step, total + weight
            weights.append(weight)
        sums.append(summed)
        accumulation.append(total)
        first += count
    return tuple(torch.tensor(result, dtype=torch.float64) for result in (sums, accumulation, weights))


def _samples(rays, longest, channels, density, kind=torch.float64, seed=0):
    torch.manual_seed(seed)
    counts = torch.randint(0, longest + 1, (rays,))
    total = int(counts.sum())
    sigma = torch.rand(total, dtype=kind) * density
    deltas = 0.5 + torch.rand(total, dtype=kind)
    return sigma, deltas, torch.randn(total, channels, dtype=kind), counts


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("density", [0.05, 2.0])
def test_equals_a_loop_over_each_ray(kind, tolerance, density):
    samples = _samples(200, 20, 4, density, kind)
    results = composite(*samples)
    for ours, expected in zip(results, _composite_by_loop(*samples), strict=True):
        assert ours.dtype == kind
        # Where a ray ends, a weight of at most MIN_TRANSMITTANCE may fall on either side by rounding.
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=tolerance)
    ended = results[2] == 0
    assert bool(ended.any()) == (density > 1)


@pytest.mark.parametrize("density", [0.3, 3.0])
def test_gradients_equal_finite_differences(density):
    sigma, deltas, values, counts = _samples(6, 8, 3, density)
    inputs = (sigma.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda s, v: composite(s, deltas, v, counts), inputs)


def test_gradients_in_single_precision():
    exact = _samples(300, 30, 3, 0.5)
    gradients = []
    for kind in (torch.float32, torch.float64):
        sigma, deltas, values = (tensor.to(kind) for tensor in exact[:3])
        sigma.requires_grad_()
        values.requires_grad_()
        sums, accumulation, weights = composite(sigma, deltas, values, exact[3])
        (sums.square().sum() + accumulation.square().sum() + (weights**3).sum()).backward()
        gradients.append((sigma.grad, values.grad))
    for single, double in zip(*gradients, strict=True):
        # Samples at the cut-off may end in one precision and not in the other: their gradients are below 1e-3.
        difference = (single.double() - double).abs()
        assert float(difference.max()) < 1e-3 and float(difference.median()) < 1e-6


def test_accumulation_of_an_opaque_ray_and_an_empty_one():
    counts = torch.tensor([0, 2, 0])
    sums, accumulation, weights = composite(
        torch.tensor([1e9, 5.0]), torch.ones(2), torch.tensor([[3.0], [7.0]]), counts
    )
    np.testing.assert_array_equal(sums.numpy(), [[0], [3], [0]])
    np.testing.assert_array_equal(accumulation.numpy(), [0, 1, 0])
    np.testing.assert_array_equal(weights.numpy(), [1, 0])


def test_nothing_at_all():
    none = torch.zeros(0, requires_grad=True)
    sums, accumulation, weights = composite(none, none, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert sums.shape == (0, 3) and accumulation.shape == (0,) and weights.shape == (0,)
    accumulation.sum().backward()
    assert none.grad is not None and none.grad.shape == (0,)


def test_counts_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="ray_counts"):
        composite(torch.ones(3), torch.ones(3), torch.ones(3, 1), torch.tensor([2, 2]))
