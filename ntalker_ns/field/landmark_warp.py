"""Bends space along with parts of the face, so that the field keeps their picture and need not paint it anew in each
frame.

A point of the frame is brought back to where it is in the mean face: landmarks of lips and jaw move by what the
frame's lip shape says, those of the brows by its brow shape, and between them the motion is interpolated by inverse
distances. What bending cannot show (teeth and tongue behind lips that part) is left to the field, which is told the lip
shape as well.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.kernels.face_state import Landmarks


class LandmarkWarp(nn.Module):
    """Shepard interpolation of the landmarks' motion in the head's x, z plane.

    Depth does not enter: the landmarks' own is known least of all, and lips, jaw and brows move along the face.
    """

    places: Float[Tensor, "points 2"]
    motions: Float[Tensor, "dim points 2"]

    def __init__(
        self, places: Float[np.ndarray, "points 2"], motions: Float[np.ndarray, "dim points 2"], softness: float
    ) -> None:
        """
        Args:
            places: mean x, z of the landmarks, world units.
            motions: how each component of a shape moves them, world units.
            softness: distance below which a landmark's weight stops growing, world units.
        """
        super().__init__()
        self.softness = softness
        # They come with the driving sequence, as the gates do.
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        self.register_buffer("motions", torch.from_numpy(motions), persistent=False)

    @torch.no_grad()
    def forward(
        self,
        positions: Float[Tensor, "samples 3"],
        shapes: Float[Tensor, "frames dim"],
        counts: list[int],
    ) -> Float[Tensor, "samples 3"]:
        """How far the material at each position has moved from its place in the mean face, world units.

        No gradient: neither shapes nor poses are learned by bending.

        Args:
            positions: world, grouped by frame.
            shapes: one row a frame.
            counts: samples of each frame.
        """
        marks = self.landmarks(shapes)
        parts = [
            self._interpolate(points, places, moved)
            for points, places, moved in zip(positions[:, ::2].split(counts), marks.places, marks.motion, strict=True)
        ]
        flat = torch.cat(parts)
        return torch.stack([flat[:, 0], torch.zeros_like(flat[:, 0]), flat[:, 1]], dim=1)

    def landmarks(self, shapes: Float[Tensor, "frames dim"]) -> Landmarks:
        """Where the landmarks are in frames.

        Args:
            shapes: one row a frame.
        """
        motion = (shapes.to(self.motions) @ self.motions.flatten(start_dim=1)).view(-1, *self.places.shape)
        return Landmarks(self.places + motion, motion, self.softness)

    def _interpolate(self, points: Tensor, places: Tensor, motion: Tensor) -> Float[Tensor, "samples 2"]:
        """Mean of the landmarks' motion at points of the frame, weighted by the inverse fourth power of distance."""
        squared = torch.cdist(points, places, compute_mode="donot_use_mm_for_euclid_dist").square()
        weights = (squared + self.softness**2).pow(-2)
        return (weights @ motion) / weights.sum(dim=1, keepdim=True)
