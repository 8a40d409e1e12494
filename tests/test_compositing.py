"""Compositing against a loop over rays in float64 (paper, Eq. 1)."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.rendering.compositing import MIN_TRANSMITTANCE, composite, composite_torch


def by_loop(density, deltas, values, ray_counts):
    weights, summed, accumulation, start = [], [], [], 0
    for count in ray_counts.tolist():
        light, total, color = 1.0, 0.0, torch.zeros(values.shape[1], dtype=torch.float64)
        for i in range(start, start + count):
            alpha = 1.0 - math.exp(-float(density[i]) * float(deltas[i]))
            weight = light * alpha if light >= MIN_TRANSMITTANCE else 0.0
            weights.append(weight)
            color = color + weight * values[i]
            total += weight
            light *= 1.0 - alpha
        summed.append(color)
        accumulation.append(total)
        start += count
    return torch.stack(summed), torch.tensor(accumulation).view(-1, 1), torch.tensor(weights)


def case(counts: list[int], seed: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    density = torch.exp(3.0 * torch.randn(total, generator=generator, dtype=torch.float64))
    deltas = 0.01 + 0.1 * torch.rand(total, generator=generator, dtype=torch.float64)
    values = torch.rand(total, 5, generator=generator, dtype=torch.float64)
    return density.to(dtype), deltas.to(dtype), values.to(dtype), torch.tensor(counts)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 10_000))
def test_composite_equals_the_loop(counts: list[int], seed: int) -> None:
    inputs = case(counts, seed, torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        values, accumulation, weights = by_loop(*inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    for implementation in (composite_torch, composite):
        ours = implementation(*inputs)
        torch.testing.assert_close(ours.values, values)
        torch.testing.assert_close(ours.accumulation, accumulation)
        torch.testing.assert_close(ours.weights, weights.to(torch.float64))


def test_reference_and_fast_gradients_agree() -> None:
    density, deltas, values, counts = case([3, 0, 6, 2], seed=1, dtype=torch.float64)
    grads = []
    for implementation in (composite_torch, composite):
        inputs = (density.clone().requires_grad_(), values.clone().requires_grad_())
        out = implementation(inputs[0], deltas, inputs[1], counts)
        loss = (out.values**2).sum() + (2.0 * out.accumulation).sum() + (out.weights**2).sum()
        grads.append(torch.autograd.grad(loss, inputs))
    torch.testing.assert_close(grads[0], grads[1])


def test_opaque_wall_is_all_that_is_seen() -> None:
    density = torch.tensor([0.0, 1e6, 1e6])
    out = composite(density, torch.full((3,), 0.1), torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([3]))
    torch.testing.assert_close(out.weights, torch.tensor([0.0, 1.0, 0.0]))
    assert float(out.values) == 2.0


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 3), st.integers(0, 10_000))
def test_what_is_of_no_ray_changes_nothing(counts: list[int], gap: int, seed: int) -> None:
    density, deltas, values, ray_counts = case(counts, seed, torch.float64)
    place = torch.cat([torch.arange(n) + sum(counts[:i]) + (i + 1) * gap for i, n in enumerate(counts)]).long()
    ends = ray_counts.cumsum(0) + gap * torch.arange(1, len(counts) + 1)
    room = sum(counts) + (len(counts) + 1) * gap
    packed = [each.requires_grad_() for each in (density, values)]
    spread = [torch.randn(room, *each.shape[1:]).double().index_copy(0, place, each.detach()) for each in packed]
    spread[0].abs_()
    widths = torch.ones(room, dtype=torch.float64).index_copy(0, place, deltas)
    expected = composite_torch(packed[0], deltas, packed[1], ray_counts)
    upstream = [torch.randn_like(each) for each in (expected.values, expected.accumulation, expected.weights)]
    everywhere = torch.randn(room, dtype=torch.float64).index_copy(0, place, upstream[2])
    sums = (expected.values, expected.accumulation, expected.weights)
    gradients = torch.autograd.grad(sums, packed, upstream, allow_unused=True)
    for implementation in (composite_torch, composite):
        inputs = [each.clone().requires_grad_() for each in spread]
        found = implementation(inputs[0], widths, inputs[1], ray_counts, ends)
        torch.testing.assert_close(found.values, expected.values)
        torch.testing.assert_close(found.accumulation, expected.accumulation)
        torch.testing.assert_close(found.weights, torch.zeros(room).double().index_copy(0, place, expected.weights))
        sums = (found.values, found.accumulation, found.weights)
        ours = torch.autograd.grad(sums, inputs, (*upstream[:2], everywhere))
        for one, other in zip(ours, gradients, strict=True):
            torch.testing.assert_close(one, torch.zeros_like(one).index_copy(0, place, other))
