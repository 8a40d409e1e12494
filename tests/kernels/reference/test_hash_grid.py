"""The torch hash grid against closed forms and a loop over vertices."""

from itertools import product

import pytest
import torch

from ntalker_ns.kernels.grid_layout import grid_layout
from ntalker_ns.kernels.reference.hash_grid import encode


def _encode_by_loop(point: list[float], table: torch.Tensor, layout) -> list[float]:
    """Instant-NGP's definition, one vertex after another, in Python numbers."""
    features = []
    for level, resolution in enumerate(layout.resolutions):
        scaled = [min(max(value, 0.0), 1.0) * resolution for value in point]
        cell = [min(int(value), resolution - 1) for value in scaled]
        blended = [0.0] * layout.features_per_level
        for corner in product((0, 1), repeat=layout.dims):
            weight, entry, stride = 1.0, 0, 1
            for value, low, step, prime in zip(scaled, cell, corner, (1, 2654435761, 805459861), strict=False):
                weight *= value - low if step else 1 - (value - low)
                vertex = low + step
                entry = entry + vertex * stride if layout.dense[level] else entry ^ (vertex * prime)
                stride *= resolution + 1
            entry = entry if layout.dense[level] else entry % layout.sizes[level]
            for feature in range(layout.features_per_level):
                blended[feature] += weight * float(table[layout.offsets[level] + entry, feature])
        features += blended
    return features


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_a_loop_over_vertices(dims):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 5, 3, 3, 100, 9)
    assert True in layout.dense and False in layout.dense
    table = torch.randn(layout.total_entries, 3, dtype=torch.float64)
    points = torch.rand(20, dims, dtype=torch.float64) * 1.2 - 0.1
    points[0], points[1] = 0.0, 1.0
    expected = torch.tensor([_encode_by_loop(point, table, layout) for point in points.tolist()])
    torch.testing.assert_close(encode(points, table, layout, 5), expected.double(), rtol=0, atol=1e-6)


def test_reproduces_a_linear_function_and_its_slope():
    layout = grid_layout(3, 1, 1, 8, 8, 12)
    axis = torch.arange(9, dtype=torch.float64) / 8
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = torch.zeros(layout.total_entries, 1, dtype=torch.float64)
    table[: 9**3, 0] = (2 * x - 3 * y + 5 * z + 1).flatten()
    points = torch.rand(50, 3, dtype=torch.float64).requires_grad_()
    encoded = encode(points, table, layout, 1)
    slope = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(encoded[:, 0], points @ slope + 1)
    encoded.sum().backward()
    torch.testing.assert_close(points.grad, slope.expand(50, 3))


def test_points_outside_take_the_border_and_have_no_gradient_across_it():
    layout = grid_layout(2, 3, 2, 4, 32, 6)
    table = torch.randn(layout.total_entries, 2, dtype=torch.float64)
    outside = torch.tensor([[1.5, 0.3], [-2.0, 0.3]], dtype=torch.float64, requires_grad=True)
    border = torch.tensor([[1.0, 0.3], [0.0, 0.3]], dtype=torch.float64)
    encoded = encode(outside, table, layout, 3)
    torch.testing.assert_close(encoded, encode(border, table, layout, 3), rtol=0, atol=0)
    encoded.sum().backward()
    assert outside.grad is not None
    assert (outside.grad[:, 0] == 0).all() and (outside.grad[:, 1] != 0).all()
