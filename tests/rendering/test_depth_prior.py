"""What is asked of points behind the surface, by hand."""

import math

import torch

from ntalker_ns.rendering.depth_prior import stratified_rays
from ntalker_ns.rendering.losses import occlusion_loss


def test_solid_points_are_judged_by_their_colour_alone():
    density = torch.tensor([[math.log(10.0) / 0.05], [1e4]])
    rgb = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.4, 0.6]])
    found = occlusion_loss(density, rgb, rgb - torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]]), step=0.05)
    torch.testing.assert_close(found, torch.tensor([0.03, 0.0]), atol=1e-6, rtol=0)


def test_thin_points_fall_short_by_a_logarithm():
    solid, rgb = math.log(10.0) / 0.1, torch.rand(2, 3)
    density = torch.tensor([[solid / math.e], [0.0]], requires_grad=True)
    found = occlusion_loss(density, rgb, rgb, step=0.1)
    expected = torch.tensor([0.01, 0.01 * math.log(solid / 1e-6)])
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    assert density.grad is not None and density.grad[0] < 0


def test_rays_are_drawn_all_over_each_frame():
    drawn, counts = stratified_rays([40, 7, 100], 0.25, torch.device("cpu"))
    assert counts == [10, 2, 25]
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert ((drawn[:10] >= 4 * torch.arange(10)) & (drawn[:10] < 4 * torch.arange(1, 11))).all()
    assert ((drawn[10:12] >= 40) & (drawn[10:12] < 47)).all()
    assert ((drawn[12:] - 47) // 4 == torch.arange(25)).all()
    every, counts = stratified_rays([3, 5], 1.0, torch.device("cpu"))
    assert every.tolist() == list(range(8)) and counts == [3, 5]
    # Over many draws, every ray is drawn about as often.
    often = torch.bincount(
        torch.cat([stratified_rays([10], 0.2, torch.device("cpu"))[0] for _ in range(500)]), minlength=10
    )
    assert often.min() > 60 and often.max() < 140
