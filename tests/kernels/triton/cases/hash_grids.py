"""The Triton hash grid against the torch reference, and its gradients against finite differences."""

import pytest
import torch

from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.kernels.grid_layout import GridLayout, grid_layout
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference import hash_grid as reference_hash_grid
from ntalker_ns.kernels.triton import hash_grid as triton_hash_grid

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _results(encode, points, table, layout, active, upstream):
    """Features, coordinates' gradient and table's gradient."""
    points, table = points.clone().requires_grad_(), table.clone().requires_grad_()
    features = encode(points, table, layout, active)
    features.backward(upstream.to(features.dtype))
    assert points.grad is not None and table.grad is not None
    return features.detach(), points.grad, table.grad


def _assert_same(points: torch.Tensor, layout: GridLayout, active: int, tolerance: float) -> None:
    points = points.to(DEVICE)
    table = torch.randn(layout.total_entries, layout.features_per_level, dtype=points.dtype, device=DEVICE)
    upstream = torch.randn(len(points), layout.output_width, dtype=points.dtype, device=DEVICE)
    ours = _results(triton_hash_grid.encode, points, table, layout, active, upstream)
    theirs = _results(reference_hash_grid.encode, points, table, layout, active, upstream)
    for one, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("active", [1, 5, 7])
def test_equals_the_reference(dims, kind, tolerance, active):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 7, 2, 8, 400, 11)
    assert True in layout.dense and False in layout.dense
    _assert_same(torch.rand(70, dims, dtype=kind) * 1.2 - 0.1, layout, active, tolerance)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("dims", [2, 3])
def test_no_point_and_one_point(count, dims):
    _assert_same(torch.rand(count, dims), grid_layout(dims, 4, 2, 4, 32, 6), 4, 1e-6)


@pytest.mark.parametrize("features", [1, 3, 8])
def test_other_numbers_of_features(features):
    torch.manual_seed(0)
    _assert_same(torch.rand(50, 2), grid_layout(2, 4, features, 4, 64, 8), 4, 1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_corners_grid_lines_and_far_away_points(dims):
    torch.manual_seed(0)
    layout = grid_layout(dims, 4, 2, 4, 32, 6)
    places = [-1e30, -0.5, 0.0, 0.25, 0.5, 1.0 - 2.0**-24, 1.0, 1e30]
    _assert_same(torch.cartesian_prod(*[torch.tensor(places)] * dims), layout, 4, 1e-6)
    _assert_same(torch.full((3, dims), float("inf")), layout, 4, 1e-6)


def test_a_coordinate_that_is_not_a_number_shows_in_the_features():
    layout = grid_layout(3, 4, 2, 4, 32, 6)
    table = torch.randn(layout.total_entries, 2, device=DEVICE)
    points = torch.tensor([[0.5, float("nan"), 0.5], [0.5, 0.5, 0.5]], device=DEVICE)
    features = triton_hash_grid.encode(points, table, layout, 4)
    assert features[0].isnan().all() and features[1].isfinite().all()
    torch.testing.assert_close(features, reference_hash_grid.encode(points, table, layout, 4), equal_nan=True)


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_equal_finite_differences(dims):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 2, 1, 2, 4, 4)
    table = torch.randn(layout.total_entries, 1, dtype=torch.float64, device=DEVICE, requires_grad=True)
    # Multiples of 1/4 are grid lines, where the slope jumps; these points keep away from them.
    cells = torch.randint(0, 4, (2, dims), dtype=torch.float64, device=DEVICE)
    points = ((cells + 0.2 + 0.6 * torch.rand_like(cells)) / 4).requires_grad_()
    encode = lambda x, t: triton_hash_grid.encode(x, t, layout, 2)  # noqa: E731
    # The order of atomic sums is not fixed on a GPU.
    assert torch.autograd.gradcheck(encode, (points, table), fast_mode=True, nondet_tol=1e-12)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_tables_sum_their_gradient_in_single_precision(kind):
    torch.manual_seed(0)
    layout = grid_layout(3, 4, 2, 4, 32, 6)
    points = torch.rand(80, 3, device=DEVICE)
    table = torch.randn(layout.total_entries, 2, device=DEVICE).to(kind)
    upstream = torch.randn(80, layout.output_width, device=DEVICE).to(kind)
    ours = _results(triton_hash_grid.encode, points, table, layout, 4, upstream)
    exact = _results(reference_hash_grid.encode, points, table.float(), layout, 4, upstream)
    assert ours[0].dtype == ours[2].dtype == kind
    torch.testing.assert_close(ours[0], exact[0].to(kind))
    torch.testing.assert_close(ours[1], exact[1], rtol=0, atol=1e-6 * float(exact[1].abs().max()))
    # Rounded once, at the end: half a unit in the last place and not one more for each of the shares.
    torch.testing.assert_close(ours[2], exact[2].to(kind))


def test_only_the_gradients_that_are_asked_for():
    layout = grid_layout(2, 4, 2, 4, 32, 6)
    points, table = torch.rand(10, 2, device=DEVICE), torch.randn(layout.total_entries, 2, device=DEVICE)
    # An expanded gradient, as from a sum, is not contiguous.
    fixed_points = table.clone().requires_grad_()
    triton_hash_grid.encode(points, fixed_points, layout, 4).sum().backward()
    fixed_table = points.clone().requires_grad_()
    triton_hash_grid.encode(fixed_table, table, layout, 4).sum().backward()
    both = _results(reference_hash_grid.encode, points, table, layout, 4, torch.ones(10, 8, device=DEVICE))
    torch.testing.assert_close(fixed_table.grad, both[1])
    torch.testing.assert_close(fixed_points.grad, both[2])


def test_the_module_runs_it_and_shares_its_parameters():
    grid = HashGrid(Ops(DEVICE, "triton"), 3, num_levels=4, max_resolution=64, log2_hashmap_size=8).to(DEVICE)
    slow = HashGrid(Ops(DEVICE, "reference"), 3, num_levels=4, max_resolution=64, log2_hashmap_size=8).to(DEVICE)
    slow.load_state_dict(grid.state_dict())
    points = torch.rand(20, 3, device=DEVICE)
    torch.testing.assert_close(grid(points, active_levels=3), slow(points, active_levels=3))
