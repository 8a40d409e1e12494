"""TODO ntalker_ns.kernels.reference.poses."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALL = 1e-4
"""Squared angle, radians squared, below which its sine and cosine are taken from their series: three terms are exact
there, and their gradients exist at 0."""

SERIES = ((1.0, 0.5, 1.0 / 6.0), (-1.0 / 6.0, -1.0 / 24.0, -1.0 / 120.0), (1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0))
"""Of sin(a) / a, (1 - cos(a)) / a^2 and (a - sin(a)) / a^3, a column each: what 1, a^2 and a^4 are multiplied by."""


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
    # 1 - cos(a) = 2 sin(a / 2)^2, without the difference of numbers that are almost the same.
    versine = torch.where(small, versine, 2.0 * ((0.5 * angle).sin() / angle).square())
    skew = _skew(vectors)
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + sine * skew + versine * (skew @ skew)


def _skew(vectors: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """[w] with [w] u = w x u."""
    x, y, z = vectors.unbind(dim=-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)


def apply_per_frame_torch(
    positions: Float[Tensor, "samples 3"], corrections: Float[Tensor, "frames 6"], counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """Moves the samples of each frame by the frame's correction.

    Args:
        positions: world, grouped by frame.
        corrections: rotation vectors and translations.
        counts: samples of each frame.
    """
    # The half precision of autocast would round positions to cells of the grid.
    with torch.autocast(positions.device.type, enabled=False):
        turned, shifts = corrections.split(3, dim=1)
        frames = zip(positions.split(counts), rotation_matrices(turned), shifts, strict=True)
        return torch.cat([torch.addmm(shift, part, rotation.T) for part, rotation, shift in frames])
