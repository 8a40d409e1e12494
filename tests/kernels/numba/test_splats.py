"""The rasteriser on the CPU against the dense reference."""

import math

import pytest
import torch
from numba import config, get_num_threads, set_num_threads
from support.gaussians import adversarial, assert_equal, joined, leaves, random_gaussians, view_of

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import Gaussians

OPS = Ops("cpu", "numba")


@pytest.mark.parametrize("name", adversarial())
def test_equals_the_reference(name: str):
    assert_equal(OPS.rasterise, *adversarial()[name])


def test_many_small_ones_equal_the_reference():
    raster = assert_equal(OPS.rasterise, random_gaussians(3000, size=-3.5), view_of(150, 70))
    assert float(raster.opacity.detach().max()) > 0.99


def test_the_number_of_threads_changes_nothing():
    gaussians, view = random_gaussians(2000, size=-3.5, dtype=torch.float32), view_of(150, 70, torch.float32)
    results, before = [], get_num_threads()
    for threads in (1, int(config.NUMBA_NUM_THREADS)):  # pyright: ignore[reportAttributeAccessIssue]
        set_num_threads(threads)
        given = leaves(gaussians, view)
        raster = joined(OPS.rasterise(gaussians, view))
        results.append((raster, *torch.autograd.grad(raster.square().sum(), given)))
    set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_pictures_without_gradients_are_the_same():
    gaussians, view = random_gaussians(500, dtype=torch.float32), view_of(40, 40, torch.float32)
    without = joined(OPS.rasterise(gaussians, view))
    leaves(gaussians, view)
    assert not without.requires_grad
    assert torch.equal(joined(OPS.rasterise(gaussians, view)), without)


def test_a_million_of_them():
    # All over and beyond the picture, of every size from points to the whole head.
    count = 1_000_000
    gaussians, view = random_gaussians(count, size=-6.0, dtype=torch.float32), view_of(64, 48, torch.float32)
    gaussians.log_scales[::1000] = math.log(0.5)
    given = leaves(gaussians, view)
    raster = joined(OPS.rasterise(gaussians, view))
    raster.sum().backward()
    assert bool(raster.isfinite().all()) and float(raster[..., 3].detach().max()) <= 1.0
    assert all(each.grad is not None and bool(each.grad.isfinite().all()) for each in given)


def test_colours_that_are_no_numbers_show():
    gaussians, view = random_gaussians(20, dtype=torch.float32), view_of(32, 32, torch.float32)
    gaussians.colours[:, 1] = math.nan
    colour = OPS.rasterise(gaussians, view).colour
    assert bool(colour[..., 1].isnan().any()) and not bool(colour[..., 0].isnan().any())


def test_float64_is_computed_by_the_reference():
    gaussians, view = random_gaussians(20), view_of(20, 16)
    assert OPS.rasterise(gaussians, view).colour.dtype == torch.float64


def test_tensors_need_not_be_contiguous():
    gaussians, view = random_gaussians(200, dtype=torch.float32), view_of(40, 40, torch.float32)
    strided = Gaussians(*(torch.stack([each, each], dim=-1)[..., 0] for each in vars(gaussians).values()))
    assert torch.equal(joined(OPS.rasterise(strided, view)), joined(OPS.rasterise(gaussians, view)))
