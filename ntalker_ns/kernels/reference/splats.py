"""Rasterisation of Gaussians: dense, every Gaussian at every pixel."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ntalker_ns.kernels.types import (
    FIELD_MARGIN,
    LEAST_ALPHA,
    LEAST_QUATERNION,
    LOW_PASS,
    MIN_TRANSMITTANCE,
    MOST_ALPHA,
    NEAR_PLANE,
    Gaussians,
    Raster,
    SplatView,
)

BAND = 1 << 24
"""Gaussians times pixels that are computed at once."""


class Projected(NamedTuple):
    """Gaussians in the picture.

    With d = pixel - centre, alpha = exp(log_opacity - q / 2), q = precision (d_x - slant d_y)^2 + narrow d_y^2: the
    inverse covariance as a sum of squares, from which needles lose no digits.
    """

    centres: Float[Tensor, "n 2"]
    """Px from the picture's upper left corner."""
    precision: Float[Tensor, "n"]
    """Per px^2."""
    slant: Float[Tensor, "n"]
    narrow: Float[Tensor, "n"]
    """Per px^2."""
    log_opacity: Float[Tensor, "n"]
    depths: Float[Tensor, "n"]
    """World units in front of the camera."""


def rasterise(gaussians: Gaussians, view: SplatView, screen_gradient: Float[Tensor, "n"] | None = None) -> Raster:
    """The picture of Gaussians: projected by EWA (Zwicker et al. 2002), composited front to back.

    A Gaussian's covariance is carried into the picture by the Jacobian of the projection at its mean (taken at the
    rim, where the mean is further outside of the picture than `FIELD_MARGIN`), and `LOW_PASS` is added to it. Opacity
    falls by the factor by which that widens the Gaussian (Yu et al. 2024, Mip-Splatting), so that pictures of different
    sizes agree. Then w_i = T_i alpha_i, T_i = product of 1 - alpha_j over the Gaussians with smaller depth, alpha at
    most `MOST_ALPHA`; w_i = 0 where alpha < `LEAST_ALPHA` or T_i < `MIN_TRANSMITTANCE`. Gaussians nearer than
    `NEAR_PLANE`, and those whose projection is not finite, are not drawn.

    Those of equal depth, see `depth_keys`, are composited in the order in which they are given.

    Differentiable in the five tensors of the Gaussians and in the view's `world_to_camera`.

    Args:
        gaussians: any number, also none.
        view: the camera.
        screen_gradient: the backward pass adds to it, for each Gaussian, the norm of the loss's gradient with respect
            to the projected mean, per px.
    """
    with torch.no_grad():
        everything = _project(gaussians, view)
        drawn = _drawn(everything).nonzero()[:, 0]
        order = drawn[torch.argsort(depth_keys(gaussians.means, view)[drawn], stable=True)]
    chosen = _select(gaussians, order)
    projected = _project(chosen, view)
    if screen_gradient is not None and projected.centres.requires_grad:
        _record(projected.centres, order, screen_gradient)
    rows = max(BAND // max(len(order) * view.width, 1), 1)
    bands = [range(first, min(first + rows, view.height)) for first in range(0, view.height, rows)]
    # Of many bands nothing is kept for the backward pass, which computes them once more.
    run = partial(checkpoint, _composite, use_reentrant=False) if len(bands) > 1 else _composite
    values = torch.cat([run(projected, chosen.colours, band, view.width) for band in bands])
    return Raster(values[..., :3], values[..., 3], values[..., 4])


def depth_keys(means: Float[Tensor, "n 3"], view: SplatView) -> Float[Tensor, "n"]:
    """Depths as Gaussians are sorted by them: computed in float64, rounded to float32.

    So every backend has the same: products of float32 numbers are exact in float64, and in whichever order they are
    added, the sums round to the same float32. Depths that float32 numbers are added up to differ between compilers, and
    with them the order of Gaussians that lie side by side.

    Args:
        means: of the Gaussians.
        view: the camera.
    """
    row = view.world_to_camera[2].double()
    return -(means.double() @ row[:3] + row[3]).float()


def _select(gaussians: Gaussians, order: Int[Tensor, "some"]) -> Gaussians:
    return Gaussians(
        gaussians.means[order],
        gaussians.log_scales[order],
        gaussians.quaternions[order],
        gaussians.opacity_logits[order],
        gaussians.colours[order],
    )


def _record(centres: Tensor, order: Int[Tensor, "some"], screen_gradient: Float[Tensor, "n"]) -> None:
    def add(gradient: Tensor) -> None:
        screen_gradient.index_add_(0, order, gradient.norm(dim=-1).to(screen_gradient.dtype))

    centres.register_hook(add)


def _rotations(quaternions: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Of quaternions wxyz of any length; none, where that is 0."""
    length = quaternions.square().sum(-1, keepdim=True)
    usable = length > LEAST_QUATERNION
    rest = quaternions.new_tensor([1.0, 0.0, 0.0, 0.0])
    w, x, y, z = torch.where(usable, quaternions / torch.where(usable, length, 1.0).sqrt(), rest).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _project(gaussians: Gaussians, view: SplatView) -> Projected:
    matrix = view.world_to_camera
    place = gaussians.means @ matrix[:, :3].T + matrix[:, 3]
    # x right, y down, z in front.
    x, y, z = place[:, 0], -place[:, 1], -place[:, 2]
    margin_x, margin_y = FIELD_MARGIN * view.width / view.fx, FIELD_MARGIN * view.height / view.fy
    u = (x / z).clamp(-view.cx / view.fx - margin_x, (view.width - view.cx) / view.fx + margin_x)
    v = (y / z).clamp(-view.cy / view.fy - margin_y, (view.height - view.cy) / view.fy + margin_y)
    axes = matrix[:, :3] @ (_rotations(gaussians.quaternions) * gaussians.log_scales.exp()[:, None, :])
    # The Jacobian's rows times the axes of the ellipsoid, px.
    first = view.fx / z[:, None] * (axes[:, 0] + u[:, None] * axes[:, 2])
    second = view.fy / z[:, None] * (-axes[:, 1] + v[:, None] * axes[:, 2])
    # The determinant of the covariance as a sum of squares.
    area = torch.linalg.cross(first, second).square().sum(-1)
    a, b, c = first.square().sum(-1), (first * second).sum(-1), second.square().sum(-1)
    widened = area + LOW_PASS * (a + c) + LOW_PASS * LOW_PASS
    c = c + LOW_PASS
    opacity = torch.nn.functional.logsigmoid(gaussians.opacity_logits)
    return Projected(
        centres=torch.stack([view.fx * x / z + view.cx, view.fy * y / z + view.cy], dim=-1),
        precision=c / widened,
        slant=b / c,
        narrow=1 / c,
        log_opacity=opacity + 0.5 * (area.log() - widened.log()),
        depths=z,
    )


def _drawn(projected: Projected) -> Bool[Tensor, "n"]:
    """Those that some pixel may show; comparisons with NaN are false."""
    finite = torch.stack([each.isfinite() for each in (*projected.centres.unbind(-1), *projected[1:])]).all(0)
    positive = (projected.precision > 0) & (projected.narrow > 0)
    bright = projected.log_opacity.exp() >= LEAST_ALPHA
    return finite & positive & bright & (projected.depths > NEAR_PLANE)


def _composite(
    projected: Projected, colours: Float[Tensor, "n 3"], rows: range, width: int
) -> Float[Tensor, "rows width 5"]:
    """Colour, opacity and depth of some rows."""
    kind = {"dtype": colours.dtype, "device": colours.device}
    across = torch.arange(width, **kind) + 0.5 - projected.centres[:, None, None, 0]
    down = torch.arange(rows.start, rows.stop, **kind)[:, None] + 0.5 - projected.centres[:, None, None, 1]
    precision, slant, narrow, log_opacity, depths = (each[:, None, None] for each in projected[1:])
    squared = precision * (across - slant * down).square() + narrow * down.square()
    alpha = torch.exp(log_opacity - 0.5 * squared)
    alpha = (alpha * (alpha >= LEAST_ALPHA)).clamp(max=MOST_ALPHA)
    logs = torch.log1p(-alpha)
    light = torch.exp(torch.cumsum(logs, dim=0) - logs)
    weights = alpha * light * (light >= MIN_TRANSMITTANCE)
    values = torch.cat([colours, torch.ones_like(depths[:, 0]), depths[:, 0]], dim=-1)
    return torch.einsum("nrw,nv->rwv", weights, values)
