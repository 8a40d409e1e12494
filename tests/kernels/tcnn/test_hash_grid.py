"""The tiny-cuda-nn backend, with its library played by a few lines of torch that follow its documented formulas."""

import math
import sys
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.grid_layout import GridLayout, grid_layout
from ntalker_ns.kernels.reference import hash_grid as reference_hash_grid
from ntalker_ns.kernels.tcnn import hash_grid as tcnn_hash_grid


class _Encoding(nn.Module):
    """tiny-cuda-nn's composite of grids: positions at x scale + 1/2, every grid on the next of the axes."""

    def __init__(self, n_input_dims: int, encoding_config: dict, dtype: torch.dtype) -> None:
        super().__init__()
        assert encoding_config["otype"] == "Composite"
        self.grids = encoding_config["nested"]
        assert sum(grid["n_dims_to_encode"] for grid in self.grids) == n_input_dims
        self.sizes = [_size(grid) for grid in self.grids]
        width = sum(size * grid["n_features_per_level"] for size, grid in zip(self.sizes, self.grids, strict=True))
        self.params = nn.Parameter(torch.zeros(width))
        self.dtype = dtype

    def forward(self, inputs: Tensor) -> Tensor:
        assert len(inputs) > 0, "an empty batch"
        assert inputs.dtype == torch.float32
        features, axis, first = [], 0, 0
        for grid, size in zip(self.grids, self.sizes, strict=True):
            dims, width = grid["n_dims_to_encode"], grid["n_features_per_level"]
            table = self.params[first : first + size * width].view(size, width)
            features.append(_grid(inputs[:, axis : axis + dims], table.to(self.dtype), grid))
            axis, first = axis + dims, first + size * width
        return torch.cat(features, dim=1).to(self.dtype)


def _scale(grid: dict) -> float:
    assert grid["n_levels"] == 1
    return grid["base_resolution"] - 1.0


def _size(grid: dict) -> int:
    dense = -(-((math.ceil(_scale(grid)) + 1) ** grid["n_dims_to_encode"]) // 8) * 8
    return dense if grid["type"] == "Dense" else min(dense, 1 << grid["log2_hashmap_size"])


def _grid(inputs: Tensor, table: Tensor, grid: dict) -> Tensor:
    place = inputs * _scale(grid) + 0.5
    cell = place.detach().floor()
    fraction = place - cell
    vertices_along = math.ceil(_scale(grid)) + 1
    features = torch.zeros(len(inputs), table.shape[1])
    for corner in product((0, 1), repeat=inputs.shape[1]):
        step = torch.tensor(corner)
        weight = torch.where(step.bool(), fraction, 1 - fraction).prod(dim=1, keepdim=True)
        vertex = cell.long() + step
        if vertices_along ** inputs.shape[1] <= len(table):
            index = sum(vertex[:, axis] * vertices_along**axis for axis in range(inputs.shape[1]))
        else:
            index = torch.zeros_like(vertex[:, 0])
            for axis, prime in zip(range(inputs.shape[1]), (1, 2654435761, 805459861), strict=False):
                index = index ^ ((vertex[:, axis] * prime) & 0xFFFFFFFF)
        features = features + weight * table[(index & 0xFFFFFFFF) % len(table)]
    return features


@pytest.fixture(autouse=True)
def played_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Encoding=_Encoding))
    tcnn_hash_grid.encoding.cache_clear()
    yield
    tcnn_hash_grid.encoding.cache_clear()


def _results(encode, points: Tensor, table: Tensor, layout: GridLayout, active: int, upstream: Tensor):
    points, table = points.clone().requires_grad_(), table.clone().requires_grad_()
    features = encode(points, table, layout, active)
    features.backward(upstream)
    assert points.grad is not None and table.grad is not None
    return features.detach(), points.grad, table.grad


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("active", [2, 6])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_reads_our_tables(dims, active, count):
    torch.manual_seed(dims)
    layout = grid_layout(dims, 6, 2, 4, 100, 9)
    assert True in layout.dense and False in layout.dense
    points = torch.rand(count, dims) * 1.2 - 0.1
    table = torch.randn(layout.total_entries, 2)
    upstream = torch.randn(count, layout.output_width)
    ours = _results(tcnn_hash_grid.encode, points, table, layout, active, upstream)
    theirs = _results(reference_hash_grid.encode, points, table, layout, active, upstream)
    for one, other in zip(ours, theirs, strict=True):
        # A place within a cell of the finest level is rounded at 100 times the rounding of a coordinate.
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("dims", [2, 3])
def test_corners_and_grid_lines(dims):
    torch.manual_seed(0)
    layout = grid_layout(dims, 4, 2, 4, 32, 6)
    points = torch.cartesian_prod(*[torch.tensor([-1e30, -0.5, 0.0, 0.25, 0.5, 1.0, 1e30])] * dims)
    table = torch.randn(layout.total_entries, 2)
    ours, theirs = (encode(points, table, layout, 4) for encode in (tcnn_hash_grid.encode, reference_hash_grid.encode))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_half_precision():
    layout = grid_layout(3, 4, 2, 4, 32, 6)
    points, table = torch.rand(50, 3), torch.randn(layout.total_entries, 2).half()
    features = tcnn_hash_grid.encode(points, table, layout, 3)
    assert features.dtype == torch.float16
    torch.testing.assert_close(
        features.float(), reference_hash_grid.encode(points, table.float(), layout, 3), rtol=0, atol=1e-2
    )


def test_tables_that_it_does_not_have_are_refused():
    points = torch.rand(3, 2)
    with pytest.raises(NTalkerError, match="3 features"):
        layout = grid_layout(2, 2, 3, 4, 8, 6)
        tcnn_hash_grid.encode(points, torch.zeros(layout.total_entries, 3), layout, 2)
    with pytest.raises(NTalkerError, match="float64"):
        layout = grid_layout(2, 2, 2, 4, 8, 6)
        tcnn_hash_grid.encode(points, torch.zeros(layout.total_entries, 2, dtype=torch.float64), layout, 2)
