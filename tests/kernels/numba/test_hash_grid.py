"""The numba hash grid against the torch reference, and its gradients against finite differences."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.grid_layout import GridLayout, grid_layout
from ntalker_ns.kernels.numba import hash_grid as numba_hash_grid
from ntalker_ns.kernels.reference import hash_grid as reference_hash_grid


def _results(encode, points, table, layout, active, upstream):
    """Features, coordinates' gradient and table's gradient."""
    points, table = points.clone().requires_grad_(), table.clone().requires_grad_()
    features = encode(points, table, layout, active)
    features.backward(upstream)
    assert points.grad is not None and table.grad is not None
    return features.detach(), points.grad, table.grad


def _assert_same(points: torch.Tensor, layout: GridLayout, active: int, tolerance: float) -> None:
    table = torch.randn(layout.total_entries, layout.features_per_level, dtype=points.dtype)
    upstream = torch.randn(len(points), layout.output_width, dtype=points.dtype)
    ours = _results(numba_hash_grid.encode, points, table, layout, active, upstream)
    theirs = _results(reference_hash_grid.encode, points, table, layout, active, upstream)
    for one, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_the_reference(dims, kind, tolerance):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 16, 2, 16, 512, 13)
    assert True in layout.dense and False in layout.dense
    points = torch.rand(1000, dims, dtype=kind) * 1.2 - 0.1
    _assert_same(points, layout, 16, tolerance)


@settings(deadline=None, max_examples=20)
@given(
    dims=st.sampled_from([2, 3]),
    count=st.integers(0, 300),
    num_levels=st.integers(1, 18),
    log2_size=st.integers(4, 12),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_equals_the_reference_on_any_grid(dims, count, num_levels, log2_size, seed, data):
    torch.manual_seed(seed)
    layout = grid_layout(dims, num_levels, 2, 2, 64, log2_size)
    active = data.draw(st.integers(1, num_levels))
    _assert_same(torch.rand(count, dims, dtype=torch.float64), layout, active, 1e-12)


def test_an_odd_number_of_features():
    torch.manual_seed(0)
    _assert_same(torch.rand(500, 2), grid_layout(2, 4, 3, 4, 64, 8), 4, 1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_equal_finite_differences(dims):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 3, 2, 2, 8, 5)
    table = torch.randn(layout.total_entries, 2, dtype=torch.float64, requires_grad=True)
    # Multiples of 1/8 are grid lines, where the slope jumps; these points keep away from them.
    cells = torch.randint(0, 8, (6, dims), dtype=torch.float64)
    points = ((cells + 0.2 + 0.6 * torch.rand(6, dims, dtype=torch.float64)) / 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: numba_hash_grid.encode(x, t, layout, 3), (points, table))


@pytest.mark.parametrize("dims", [2, 3])
def test_corners_grid_lines_and_far_away_points(dims):
    torch.manual_seed(0)
    layout = grid_layout(dims, 4, 2, 4, 32, 6)
    lines = torch.cartesian_prod(*[torch.tensor([-1e30, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 1e30])] * dims)
    _assert_same(lines, layout, 4, 1e-5)
    _assert_same(lines[:1], layout, 4, 1e-5)
    _assert_same(torch.full((3, dims), float("inf")), layout, 4, 1e-5)


def test_a_coordinate_that_is_not_a_number_shows_in_the_features():
    layout = grid_layout(3, 4, 2, 4, 32, 6)
    table = torch.randn(layout.total_entries, 2)
    points = torch.tensor([[0.5, float("nan"), 0.5], [0.5, 0.5, 0.5]])
    features = numba_hash_grid.encode(points, table, layout, 4)
    assert features[0].isnan().all() and features[1].isfinite().all()
    torch.testing.assert_close(features, reference_hash_grid.encode(points, table, layout, 4), equal_nan=True)


def test_only_the_gradients_that_are_asked_for():
    layout = grid_layout(2, 4, 2, 4, 32, 6)
    points, table = torch.rand(10, 2), torch.randn(layout.total_entries, 2)
    # An expanded gradient, as from a sum, is not contiguous.
    fixed_points = table.clone().requires_grad_()
    numba_hash_grid.encode(points, fixed_points, layout, 4).sum().backward()
    fixed_table = points.clone().requires_grad_()
    numba_hash_grid.encode(fixed_table, table, layout, 4).sum().backward()
    both = _results(reference_hash_grid.encode, points, table, layout, 4, torch.ones(10, 8))
    torch.testing.assert_close(fixed_table.grad, both[1])
    torch.testing.assert_close(fixed_points.grad, both[2])


def test_several_threads_may_encode_at_once():
    layout = grid_layout(3, 4, 2, 4, 32, 6)
    table = torch.randn(layout.total_entries, 2)
    batches = [torch.rand(2000, 3) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda batch: numba_hash_grid.encode(batch, table, layout, 4), batches))
    for batch, result in zip(batches, results, strict=True):
        torch.testing.assert_close(result, reference_hash_grid.encode(batch, table, layout, 4))
