"""Fused compositing against a loop over each ray in double precision."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ntalker_ns.kernels.numba.compositing import composite
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE

STEP = 0.75


def _composite_by_loop(density, values, distances, step, ray_counts):
    """Python numbers, one sample after another."""
    sums, of_rays, weights = [], [], []
    first = 0
    for count in ray_counts.tolist():
        optical_depth, summed, of_ray = 0.0, [0.0] * values.shape[1], []
        for i in range(first, first + count):
            transmittance = math.exp(-optical_depth)
            depth = float(density[i]) * step
            weight = transmittance * (1 - math.exp(-depth)) if transmittance >= MIN_TRANSMITTANCE else 0.0
            summed = [one + weight * float(value) for one, value in zip(summed, values[i], strict=True)]
            optical_depth += depth
            of_ray.append((weight, float(distances[i])))
        total, distance = sum(w for w, _ in of_ray), sum(w * t for w, t in of_ray)
        thickness = sum(w * (t - distance / total) ** 2 for w, t in of_ray if total)
        sums.append(summed)
        of_rays.append((total, distance, thickness))
        weights += [w for w, _ in of_ray]
        first += count
    columns = (torch.tensor(each, dtype=torch.float64)[:, None] for each in zip(*of_rays, strict=True))
    return torch.tensor(sums, dtype=torch.float64), *columns, torch.tensor(weights, dtype=torch.float64)


def _samples(rays, longest, channels, density, kind=torch.float64, seed=0) -> Any:
    torch.manual_seed(seed)
    counts = torch.randint(0, longest + 1, (rays,))
    total = int(counts.sum())
    sigma = torch.rand(total, dtype=kind) * density
    distances = 3 + torch.rand(total, dtype=kind)
    return sigma, torch.randn(total, channels, dtype=kind), distances, STEP, counts


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 4e-6)])
@pytest.mark.parametrize("density", [0.05, 2.0])
def test_equals_a_loop_over_each_ray(kind, tolerance, density):
    samples = _samples(200, 20, 4, density, kind)
    results = composite(*samples)
    for ours, expected in zip(results, _composite_by_loop(*samples), strict=True):
        assert ours.dtype == kind
        # Where a ray ends, a weight of at most MIN_TRANSMITTANCE may fall on either side by rounding.
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=tolerance)
    ended = results[-1] == 0
    assert bool(ended.any()) == (density > 1)


@pytest.mark.parametrize("density", [0.3, 3.0])
def test_gradients_equal_finite_differences(density):
    sigma, values, *others = _samples(6, 8, 3, density)
    inputs = (sigma.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda s, v: composite(s, v, *others), inputs)


def test_gradients_in_single_precision():
    *exact, step, counts = _samples(300, 30, 3, 0.5)
    gradients = []
    for kind in (torch.float32, torch.float64):
        sigma, values, distances = (tensor.to(kind) for tensor in exact)
        sigma.requires_grad_()
        values.requires_grad_()
        *of_rays, weights = composite(sigma, values, distances, step, counts)
        (sum(each.square().sum() for each in of_rays) + (weights**3).sum()).backward()
        gradients.append((sigma.grad, values.grad))
    for single, double in zip(*gradients, strict=True):
        # Samples at the cut-off may end in one precision and not in the other: their gradients are below 1e-3.
        difference = (single.double() - double).abs()
        assert float(difference.max()) < 2e-3 and float(difference.median()) < 1e-6


def test_a_thin_surface_far_away_is_thin_in_single_precision():
    density, distances = torch.full((4,), 0.7), 40 + 1e-3 * torch.arange(4)
    *_, thickness, _ = composite(density, torch.ones(4, 1), distances, STEP, torch.tensor([4]))
    single = (density.double(), torch.ones(4, 1).double(), distances.double(), STEP, torch.tensor([4]))
    torch.testing.assert_close(thickness.double(), _composite_by_loop(*single)[3], rtol=1e-4, atol=0)


def test_accumulation_of_an_opaque_ray_and_an_empty_one():
    given = (torch.tensor([1e9, 5.0]), torch.tensor([[3.0], [7.0]]), torch.tensor([2.0, 3.0]), 1.0)
    sums, accumulation, distance, thickness, weights = composite(*given, torch.tensor([0, 2, 0]))
    np.testing.assert_array_equal(sums.numpy(), [[0], [3], [0]])
    np.testing.assert_array_equal(accumulation.numpy(), [[0], [1], [0]])
    np.testing.assert_array_equal(distance.numpy(), [[0], [2], [0]])
    np.testing.assert_array_equal(thickness.numpy(), [[0], [0], [0]])
    np.testing.assert_array_equal(weights.numpy(), [1, 0])


def test_nothing_at_all():
    none = torch.zeros(0, requires_grad=True)
    sums, *of_rays, weights = composite(none, torch.zeros(0, 3), none, STEP, torch.zeros(0, dtype=torch.int64))
    assert sums.shape == (0, 3) and weights.shape == (0,)
    assert {each.shape for each in of_rays} == {(0, 1)}
    of_rays[0].sum().backward()
    assert none.grad is not None and none.grad.shape == (0,)


def test_counts_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="ray_counts"):
        composite(torch.ones(3), torch.ones(3, 1), torch.ones(3), STEP, torch.tensor([2, 2]))
