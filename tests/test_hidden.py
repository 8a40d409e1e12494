"""What is asked of points behind the surface, by hand."""

import math

import torch

from ntalker_ns.rendering.hidden import off_hidden


def test_solid_points_are_judged_by_their_colour_alone():
    density = torch.tensor([[math.log(10.0) / 0.05], [1e4]])
    rgb = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.4, 0.6]])
    found = off_hidden(density, rgb, rgb - torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]]), step=0.05)
    torch.testing.assert_close(found, torch.tensor([0.03, 0.0]), atol=1e-6, rtol=0)


def test_thin_points_fall_short_by_a_logarithm():
    solid, rgb = math.log(10.0) / 0.1, torch.rand(2, 3)
    density = torch.tensor([[solid / math.e], [0.0]], requires_grad=True)
    found = off_hidden(density, rgb, rgb, step=0.1)
    expected = torch.tensor([0.01, 0.01 * math.log(solid / 1e-6)])
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    assert density.grad is not None and density.grad[0] < 0
