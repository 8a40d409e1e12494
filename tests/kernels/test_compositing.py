"""Compositing against a loop over rays in float64 (paper, Eq. 1)."""

import math
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.compositing import composite as reference
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, Composited

composite = Ops("cpu").composite

STEP = 0.07


def by_loop(density, values, distances, ray_counts) -> Composited:
    found, start = [], 0
    for count in ray_counts.tolist():
        light, weights = 1.0, []
        for i in range(start, start + count):
            alpha = 1.0 - math.exp(-float(density[i]) * STEP)
            weights.append(light * alpha if light >= MIN_TRANSMITTANCE else 0.0)
            light *= 1.0 - alpha
        weight, along = torch.tensor(weights).double(), distances[start : start + count]
        mean = (weight * along).sum() / weight.sum()
        summed = (weight[:, None] * values[start : start + count]).sum(dim=0)
        of_ray = [weight.sum(), (weight * along).sum(), (weight * (along - mean) ** 2).nansum()]
        found.append((summed, *(each[None] for each in of_ray), weight))
        start += count
    *of_rays, weights = zip(*found, strict=True)
    return Composited._make([*(torch.stack(each) for each in of_rays), torch.cat(weights)])


def case(counts: list[int], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    density = torch.exp(3.0 * torch.randn(total, generator=generator, dtype=torch.float64))
    distances = 3.0 + torch.rand(total, generator=generator, dtype=torch.float64).cumsum(dim=0)
    values = torch.rand(total, 5, generator=generator, dtype=torch.float64)
    return density, values, distances, torch.tensor(counts)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 10_000))
def test_composite_equals_the_loop(counts: list[int], seed: int) -> None:
    density, values, distances, ray_counts = case(counts, seed)
    expected = by_loop(density, values, distances, ray_counts)
    for implementation in (reference, composite):
        ours = implementation(density, values, distances, STEP, ray_counts)
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-7)


def test_reference_and_fast_gradients_agree() -> None:
    density, values, distances, counts = case([3, 0, 6, 2], seed=1)
    grads = []
    for implementation in (reference, composite):
        inputs = (density.clone().requires_grad_(), values.clone().requires_grad_())
        out = implementation(*inputs, distances, STEP, counts)
        loss = torch.stack([(factor * each**2).sum() for factor, each in enumerate(out, start=1)]).sum()
        grads.append(torch.autograd.grad(loss, inputs))
    torch.testing.assert_close(grads[0], grads[1])


def test_the_reference_takes_its_mean_distance_as_fixed_and_may() -> None:
    density, values, distances, counts = case([3, 5], seed=2)
    density = (0.1 * density).requires_grad_()

    def thickness(density):
        return reference(density, values, distances, STEP, counts).thickness

    assert torch.autograd.gradcheck(thickness, density)


def test_opaque_wall_is_all_that_is_seen() -> None:
    density, values = torch.tensor([0.0, 1e6, 1e6]), torch.tensor([[1.0], [2.0], [4.0]])
    out = composite(density, values, torch.tensor([5.0, 5.5, 6.0]), 0.1, torch.tensor([3]))
    torch.testing.assert_close(out.weights, torch.tensor([0.0, 1.0, 0.0]))
    assert (float(out.values), float(out.distance), float(out.thickness)) == (2.0, 5.5, 0.0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 3), st.integers(0, 10_000))
def test_samples_of_no_ray_change_nothing(counts: list[int], gap: int, seed: int) -> None:
    density, values, distances, ray_counts = case(counts, seed)
    place = torch.cat([torch.arange(n) + sum(counts[:i]) + (i + 1) * gap for i, n in enumerate(counts)]).long()
    ends = ray_counts.cumsum(0) + gap * torch.arange(1, len(counts) + 1)
    room = sum(counts) + (len(counts) + 1) * gap
    packed = [each.requires_grad_() for each in (density, values)]
    spread = [torch.randn(room, *each.shape[1:]).double().index_copy(0, place, each.detach()) for each in packed]
    spread[0].abs_()
    along = torch.rand(room, dtype=torch.float64).index_copy(0, place, distances)
    expected = reference(packed[0], packed[1], distances, STEP, ray_counts)
    upstream = [torch.randn_like(each) for each in expected]
    everywhere = torch.randn(room, dtype=torch.float64).index_copy(0, place, upstream[-1])
    gradients = torch.autograd.grad(expected, packed, upstream)
    for implementation in (reference, composite):
        inputs = [each.clone().requires_grad_() for each in spread]
        found = implementation(inputs[0], inputs[1], along, STEP, ray_counts, ends)
        weights = torch.zeros(room).double().index_copy(0, place, expected.weights)
        torch.testing.assert_close(found, expected._replace(weights=weights), atol=1e-9, rtol=1e-7)
        ours = torch.autograd.grad(found, inputs, (*upstream[:-1], everywhere))
        for one, other in zip(ours, gradients, strict=True):
            torch.testing.assert_close(one, torch.zeros_like(one).index_copy(0, place, other))
