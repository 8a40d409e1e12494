"""Landmarks that warp space along with parts of the face, so that the field need not repaint them in each frame.

A point of the frame is mapped back to the mean face: landmarks of lips and jaw move with the frame's lip shape, those
of the brows with its brow shape, and in between motion is interpolated (`kernels.reference.warp`). What warping cannot
show (teeth and tongue behind lips that part) is left to the field, which is conditioned on the lip shape as well.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntalker_ns.kernels.types import Landmarks

WARP_SOFTNESS = 0.05
"""Softness of the warps of lips and brows over the distance between the eyes: about the distance between landmarks of a
lip."""


class LandmarkWarp(nn.Module):
    """The landmarks of a part of the face, in the head's x, z plane.

    Depth is left out: it is the least certain coordinate of a landmark, and lips, jaw and brows move along the face.
    """

    positions: Float[Tensor, "points 2"]
    basis: Float[Tensor, "dim points 2"]

    def __init__(
        self, positions: Float[np.ndarray, "points 2"], basis: Float[np.ndarray, "dim points 2"], softness: float
    ) -> None:
        """
        Args:
            positions: mean x, z of the landmarks, world units.
            basis: how each component of a shape moves them, world units.
            softness: distance below which a landmark's weight stops growing, world units.
        """
        super().__init__()
        self.softness = softness
        # Not saved: they come with the driving sequence.
        self.register_buffer("positions", torch.from_numpy(positions), persistent=False)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)

    @torch.no_grad()
    def forward(self, shapes: Float[Tensor, "frames dim"]) -> Landmarks:
        """The landmarks in frames; no gradient: warping learns neither shapes nor poses.

        Args:
            shapes: one row per frame.
        """
        motion = (shapes.to(self.basis) @ self.basis.flatten(start_dim=1)).view(-1, *self.positions.shape)
        return Landmarks(self.positions + motion, motion, self.softness)


def inside_contour(points: Float[Tensor, "points 2"], contour: Float[Tensor, "corners 2"]) -> Bool[Tensor, "points"]:
    """Whether points lie inside a closed contour: a ray to the right crosses it an odd number of times.

    Args:
        points: x and y.
        contour: its corners, in order.
    """
    (x0, y0), (x1, y1) = contour.T, contour.roll(-1, dims=0).T
    x, y = points[:, :1], points[:, 1:]
    spans = (y0 > y) != (y1 > y)
    rise = torch.where(y1 == y0, 1.0, y1 - y0)
    return (spans & (x < x0 + (y - y0) / rise * (x1 - x0))).sum(dim=1) % 2 == 1
