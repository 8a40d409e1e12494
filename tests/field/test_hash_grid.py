"""The hash grid module."""

import pytest
import torch

from ntalker_ns.field.hash_grid import INITIAL_RANGE, HashGrid
from ntalker_ns.kernels.ops import Ops

OPS = Ops("cpu")


@pytest.mark.parametrize("dims", [2, 3])
def test_width_range_and_backends(dims):
    grid = HashGrid(OPS, dims, num_levels=4, max_resolution=64, log2_hashmap_size=10)
    points = torch.rand(7, dims)
    encoded = grid(points)
    assert encoded.shape == (7, grid.output_width) == (7, 8)
    assert 0 < float(encoded.detach().abs().max()) <= INITIAL_RANGE
    slow = HashGrid(Ops("cpu", "reference"), dims, num_levels=4, max_resolution=64, log2_hashmap_size=10)
    slow.load_state_dict(grid.state_dict())
    torch.testing.assert_close(slow(points), encoded)


def test_levels_beyond_the_active_ones_are_zero():
    grid = HashGrid(OPS, 2, num_levels=4, max_resolution=64, log2_hashmap_size=10)
    points = torch.rand(7, 2)
    encoded, coarse = grid(points), grid(points, active_levels=3)
    assert (coarse[:, :6] == encoded[:, :6]).all() and (coarse[:, 6:] == 0).all()
    coarse.sum().backward()
    assert grid.table.grad is not None
    assert (grid.table.grad[grid.layout.offsets[3] :] == 0).all()


def test_only_the_table_is_stored():
    assert list(HashGrid(OPS, 2, num_levels=2).state_dict()) == ["table"]


@pytest.mark.parametrize(("shape", "levels"), [((5, 2), None), ((3,), None), ((5, 3), 17), ((5, 3), 0)])
def test_wrong_arguments_are_refused(shape, levels):
    # Annotations refuse a wrong number of dimensions before the grid does.
    with pytest.raises((ValueError, TypeError)):
        HashGrid(OPS, 3, log2_hashmap_size=4)(torch.rand(shape), levels)
