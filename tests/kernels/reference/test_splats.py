"""The dense rasteriser against finite differences, closed forms and gsplat's projection in torch."""

import math

import pytest
import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci
from support.gaussians import joined, leaves, random_gaussians, view_of

from ntalker_ns.kernels.reference import splats
from ntalker_ns.kernels.reference.splats import rasterise
from ntalker_ns.kernels.types import Gaussians, SplatView


def one(log_scale: float, logit: float = 0.0, changes: dict[str, torch.Tensor] | None = None) -> Gaussians:
    given: dict[str, torch.Tensor] = {
        "means": torch.zeros(1, 3, dtype=torch.float64),
        "log_scales": torch.full((1, 3), log_scale, dtype=torch.float64),
        "quaternions": torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
        "opacity_logits": torch.full((1,), logit, dtype=torch.float64),
        "colours": torch.tensor([[0.2, 0.5, 0.8]], dtype=torch.float64),
    }
    return Gaussians(**{**given, **(changes or {})})


def straight(size: int, focal: float, distance: float = 4.0) -> SplatView:
    matrix = torch.eye(4, dtype=torch.float64)[:3].clone()
    matrix[2, 3] = -distance
    return SplatView(matrix, focal, focal, size / 2, size / 2, size, size)


def test_gradients_equal_finite_differences():
    gaussians, view = random_gaussians(4, seed=3, size=-1.5), view_of(6, 5)
    given = leaves(gaussians, view)
    numbers = (view.fx, view.fy, view.cx, view.cy, view.width, view.height)

    def picture(*tensors: torch.Tensor) -> torch.Tensor:
        return joined(rasterise(Gaussians(*tensors[:5]), SplatView(tensors[5], *numbers)))

    assert float(picture(*given)[..., 3].detach().max()) > 0.3
    assert torch.autograd.gradcheck(picture, given, eps=1e-7, atol=1e-5, fast_mode=True)


def test_a_ball_on_the_axis_has_its_closed_form():
    size, focal, scale = 33, 40.0, 0.2
    raster = rasterise(one(math.log(scale), 1.0), straight(size, focal))
    variance = (scale * focal / 4.0) ** 2
    peak = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64)) * variance / (variance + 0.3)
    offset = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    alpha = peak * torch.exp(-0.5 * (offset.square() + offset.square()[:, None]) / (variance + 0.3))
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    torch.testing.assert_close(raster.opacity, alpha)
    torch.testing.assert_close(raster.colour, alpha[..., None] * torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))
    torch.testing.assert_close(raster.depth, 4.0 * alpha)


def test_axes_of_the_picture():
    # To the right and up in the head's space is right and up in the picture.
    raster = rasterise(
        one(-3.0, changes={"means": torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)}), straight(32, 40.0)
    )
    row, column = divmod(int(raster.opacity.argmax()), 32)
    assert column > 16 and row < 16


def test_quaternions_turn_the_axes():
    # A needle along x, turned by 90 degrees about z, points along y.
    half = math.sqrt(0.5)
    needle = torch.tensor([[-1.0, -4.0, -4.0]], dtype=torch.float64)
    turn = torch.tensor([[2 * half, 0.0, 0.0, 2 * half]], dtype=torch.float64)
    lying = rasterise(one(0.0, changes={"log_scales": needle}), straight(33, 40.0)).opacity
    standing = rasterise(one(0.0, changes={"log_scales": needle, "quaternions": turn}), straight(33, 40.0)).opacity
    torch.testing.assert_close(standing, lying.T)
    assert int((lying[16] > 0.01).sum()) > 2 * int((lying[:, 16] > 0.01).sum())


def test_the_nearer_one_covers_the_other():
    pair = Gaussians(*(each.expand(2, *each.shape[1:]) for each in vars(one(-1.0, 6.0)).values()))
    pair.means = torch.tensor([[0.0, 0.0, -0.5], [0.0, 0.0, 0.5]], dtype=torch.float64)
    pair.colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    middle = rasterise(pair, straight(17, 30.0)).colour[8, 8]
    assert middle[1] > 0.9 and middle[0] < 0.1


def test_a_small_ball_shines_as_much_at_all_sizes():
    # 0.2 px wide at 33 px, 1.6 px at 257.
    sums = [float(rasterise(one(-3.9, 6.0), straight(size, 1.25 * size)).opacity.mean()) for size in (33, 65, 129, 257)]
    assert max(sums) < 1.02 * min(sums)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (17, 50)])
def test_projections_are_gsplats(width: int, height: int):
    # Some of them are so far aside that the linearisation is held at the rim.
    gaussians, view = random_gaussians(80, size=-2.0), view_of(width, height)
    gaussians.means[:8, 0] += 2.0
    covariances, _ = _quat_scale_to_covar_preci(gaussians.quaternions, gaussians.log_scales.exp(), True, False, False)
    seen, lens = torch.eye(4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    # gsplat's cameras look along z and have y downwards.
    seen[:3] = torch.tensor([[1.0], [-1.0], [-1.0]], dtype=torch.float64) * view.world_to_camera
    lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2] = view.fx, view.fy, view.cx, view.cy
    assert covariances is not None
    _, centres, depths, inverse, factor = _fully_fused_projection(
        gaussians.means, covariances, seen[None], lens[None], width, height, 0.3, 0.01, 1e10, True
    )
    assert factor is not None
    order = depths[0].argsort()
    across = torch.arange(width, dtype=torch.float64) + 0.5 - centres[0, order, None, None, 0]
    down = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None] - centres[0, order, None, None, 1]
    xx, xy, yy = inverse[0, order, None, None].unbind(-1)
    opacity = (gaussians.opacity_logits.sigmoid() * factor[0])[order, None, None]
    alpha = opacity * torch.exp(-0.5 * (xx * across * across + yy * down * down) - xy * across * down)
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha).clamp(max=0.999)
    weights = alpha * torch.cat([torch.ones_like(alpha[:1]), torch.cumprod(1 - alpha, 0)[:-1]])
    raster = rasterise(gaussians, view)
    # Gaussians behind which less than 1e-4 passes are left out of ours.
    expected = torch.einsum("nhw,nc->hwc", weights, gaussians.colours[order])
    torch.testing.assert_close(raster.colour, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(raster.opacity, weights.sum(0), rtol=0, atol=1e-4)
    torch.testing.assert_close(raster.depth, (weights * depths[0, order, None, None]).sum(0), rtol=0, atol=1e-3)
    assert float(raster.opacity.mean()) > 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"means": torch.tensor([[0.0, 0.0, 5.0]], dtype=torch.float64)},
        {"means": torch.tensor([[0.0, 0.0, 3.995]], dtype=torch.float64)},
        {"means": torch.tensor([[0.0, math.nan, 0.0]], dtype=torch.float64)},
        {"log_scales": torch.full((1, 3), -math.inf, dtype=torch.float64)},
        {"log_scales": torch.full((1, 3), 800.0, dtype=torch.float64)},
        {"opacity_logits": torch.full((1,), -900.0, dtype=torch.float64)},
    ],
    ids=["behind", "too near", "not a number", "no size", "infinite", "transparent"],
)
def test_what_cannot_be_drawn_is_left_out(changes: dict[str, torch.Tensor]):
    gaussians, view = one(-1.0, changes=changes), straight(8, 10.0)
    given = leaves(gaussians, view)
    raster = joined(rasterise(gaussians, view))
    assert not raster.any()
    raster.sum().backward()
    assert all(each.grad is None or not each.grad.any() for each in given)


def test_a_quaternion_of_no_length_turns_nothing():
    none = torch.zeros(1, 4, dtype=torch.float64)
    scales = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)
    gaussians = one(0.0, changes={"log_scales": scales, "quaternions": none.requires_grad_()})
    found = rasterise(gaussians, straight(8, 10.0)).opacity
    torch.testing.assert_close(found, rasterise(one(0.0, changes={"log_scales": scales}), straight(8, 10.0)).opacity)
    found.sum().backward()
    assert none.grad is not None and not none.grad.any()


def test_norms_of_screen_gradients_are_added_up():
    gaussians, view = random_gaussians(20, size=-2.0), view_of(12, 10)
    gaussians.means.requires_grad_()
    norms = torch.ones(20, dtype=torch.float64)
    rasterise(gaussians, view, norms).colour.square().sum().backward()
    # Moved along x by a px of its own depth, a mean moves by a px in the picture.
    drawn = norms > 1 + 1e-9
    assert 10 < int(drawn.sum()) <= 20
    assert gaussians.means.grad is not None
    torch.testing.assert_close(drawn, gaussians.means.grad.abs().sum(-1) > 1e-9)


def test_pictures_in_bands_are_the_same(monkeypatch: pytest.MonkeyPatch):
    gaussians, view = random_gaussians(20, size=-2.0), view_of(12, 10)
    given, results = leaves(gaussians, view), []
    for most in (1 << 24, 500):
        monkeypatch.setattr(splats, "BAND", most)
        picture = joined(rasterise(gaussians, view))
        results.append((picture, *torch.autograd.grad(picture.square().sum(), given)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_none_at_all():
    gaussians, view = random_gaussians(0), view_of(8, 8)
    given = leaves(gaussians, view)
    raster = rasterise(gaussians, view)
    assert raster.colour.shape == (8, 8, 3) and not joined(raster).any()
    assert all(each.shape[0] in (0, 3) for each in given)
