"""Rigid corrections of tracked head poses."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALL = 1e-4
"""Squared angle, radians squared, below which functions of it are series of three terms: exact there, and
differentiable at 0."""

SERIES = ((1.0, 0.5, 1.0 / 6.0), (-1.0 / 6.0, -1.0 / 24.0, -1.0 / 120.0), (1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0))
"""Coefficients of 1, a^2 and a^4 (rows) for sin(a) / a, (1 - cos(a)) / a^2 and (a - sin(a)) / a^3 (columns)."""


def rotation_matrices(vectors: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """Rotations from axis-angle vectors in radians (Rodrigues' formula).

    R = I + sin(a) / a [w] + (1 - cos(a)) / a^2 [w]^2, where a is the length of w and [w] u = w x u.
    """
    squared = vectors.square().sum(dim=-1)[:, None, None]
    small = squared < SMALL
    angle = torch.where(small, 1.0, squared).sqrt()
    series = (one + squared * two + squared.square() * three for one, two, three in zip(*SERIES, strict=True))
    sine, versine, _ = series
    sine = torch.where(small, sine, angle.sin() / angle)
    # 1 - cos(a) = 2 sin(a / 2)^2, without cancellation.
    versine = torch.where(small, versine, 2.0 * ((0.5 * angle).sin() / angle).square())
    skew = skew_matrices(vectors)
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + sine * skew + versine * (skew @ skew)


def skew_matrices(vectors: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """[w] with [w] u = w x u."""
    x, y, z = vectors.unbind(dim=-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)


def correct_poses(
    positions: Float[Tensor, "samples 3"], corrections: Float[Tensor, "frames 6"], counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """Moves the samples of each frame by the frame's correction: x' = R(w) x + t; differentiable in the corrections.

    Args:
        positions: world, grouped by frame.
        corrections: rotation vectors and translations.
        counts: samples of each frame.
    """
    # Autocast's half precision would round positions to cells of the hash grid.
    with torch.autocast(positions.device.type, enabled=False):
        turned, shifts = corrections.split(3, dim=1)
        frames = zip(positions.split(counts), rotation_matrices(turned), shifts, strict=True)
        return torch.cat([torch.addmm(shift, part, rotation.T) for part, rotation, shift in frames])
