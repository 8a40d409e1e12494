"""Triton's rasteriser against the dense reference."""

import pytest
import torch
from support.gaussians import adversarial, assert_equal, joined, moved, random_gaussians, view_of

from ntalker_ns.kernels.ops import Ops

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPS = Ops(DEVICE, "triton")


@pytest.mark.parametrize("name", adversarial())
def test_equals_the_reference(name: str):
    assert_equal(OPS.rasterise, *adversarial()[name], DEVICE)


def test_bins_of_several_tiles_equal_the_reference():
    assert_equal(OPS.rasterise, random_gaussians(60, size=-4.5), view_of(300, 20), DEVICE)


def test_float64_is_computed_by_the_reference():
    gaussians, view = moved(random_gaussians(20), view_of(20, 16), DEVICE)
    assert OPS.rasterise(gaussians, view).colour.dtype == torch.float64


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_many_equal_the_reference():
    assert_equal(OPS.rasterise, random_gaussians(3000, size=-3.5), view_of(150, 70), DEVICE)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_a_picture_is_one_graph():
    gaussians, view = moved(
        random_gaussians(3000, size=-3.5, dtype=torch.float32), view_of(150, 70, torch.float32), DEVICE
    )
    expected = joined(OPS.rasterise(gaussians, view))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = joined(OPS.rasterise(gaussians, view))
    graph.replay()
    assert torch.equal(found, expected)
