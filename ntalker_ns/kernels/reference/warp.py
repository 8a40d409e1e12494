"""Gates, the landmark warp and the lid fold: where a point of a frame is in the mean face with open eyes."""

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.ragged import compact, expand_per_frame
from ntalker_ns.kernels.types import FaceState, Gate, Landmarks


def gate(positions: Float[Tensor, "samples 3"], balls: Gate) -> Float[Tensor, "samples 1"]:
    """A gate's value in [0, 1] at each position; differentiable.

    Args:
        positions: world.
        balls: the gate.
    """
    centers = balls.centers_on(positions.device, positions.dtype)
    squared = ((positions[:, None, :] - centers) ** 2).sum(dim=-1).amin(dim=1, keepdim=True)
    # The tiny floor keeps the square root's gradient finite at a centre.
    distance = torch.sqrt(squared + 1e-12)
    x = ((balls.outer - distance) / (balls.outer - balls.inner)).clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


@torch.no_grad()
def inverse_warp(
    positions: Float[Tensor, "samples 3"], speech: Float[Tensor, "samples 1"], counts: list[int], face: FaceState
) -> tuple[Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
    """The shift to canonical space, the mean face with open eyes; no gradient.

    Lips and brows are moved at the positions in the frame; lids fold where the brows are after that.

    Args:
        positions: world, grouped by frame.
        speech: the speech gate at the positions.
        counts: samples of each frame.
        face: of the frames.

    Returns:
        The shift in world units, and how far eyes are closed at each position, 0 to 1.
    """
    eyes, shift = gate(positions, face.eye_gate), torch.zeros_like(positions)
    for weight, marks in ((speech, face.lips), (gate(positions, face.brow_gate), face.brows)):
        inside = compact(weight.squeeze(-1) > 0, counts)
        moved = landmark_displacement(inside.of(positions), marks, inside.counts)
        shift -= inside.scatter(moved * inside.of(weight))
    inside = compact(eyes.squeeze(-1) > 0, counts)
    openness = face.openness.to(positions)[:, None]
    rise = lid_rise(
        inside.of(positions) + inside.of(shift), face.lids, expand_per_frame(openness, inside.counts).squeeze(-1)
    )
    shift[:, 2:] += inside.scatter(rise[:, None] * inside.of(eyes))
    return shift, eyes * expand_per_frame(1.0 - openness, counts)


def landmark_displacement(
    positions: Float[Tensor, "samples 3"], marks: Landmarks, counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """How far the material at each position has moved from its place in the mean face, world units.

    Shepard interpolation in the x, z plane: the mean of the landmarks' motion, weighted by the inverse fourth power of
    distance.

    Args:
        positions: world, grouped by frame.
        marks: of the frames.
        counts: samples of each frame.
    """
    parts = []
    for points, places, motion in zip(positions[:, ::2].split(counts), marks.positions, marks.motion, strict=True):
        distance = torch.cdist(points, places.to(points), compute_mode="donot_use_mm_for_euclid_dist")
        weights = (distance.square() + marks.softness**2).pow(-2)
        parts.append((weights @ motion.to(points)) / weights.sum(dim=1, keepdim=True))
    x, z = torch.cat(parts).unbind(dim=1)
    return torch.stack([x, torch.zeros_like(x), z], dim=1)


def lid_rise(
    positions: Float[Tensor, "samples 3"], lids: Float[Tensor, "2 columns 4"], openness: Float[Tensor, "samples"]
) -> Float[Tensor, "samples"]:
    """How far above each position its place in the open-eyed face is, world units.

    In the x, z plane: below the upper lid's edge the eye shows as it is; above it, the skin between the open lid and
    the brow is stretched down to the edge.

    Args:
        positions: world.
        lids: x, lower edge, upper edge and top of the skin, column by column of each eye.
        openness: of the eyes, 0 closed to 1 open.
    """
    x, z = positions[:, 0], positions[:, 2]
    rise = torch.zeros_like(z)
    for eye in lids.to(z):
        last = len(eye) - 1
        column = (x - eye[0, 0]) / (eye[-1, 0] - eye[0, 0]) * last
        left = column.clamp(0, last).floor().long().clamp(max=last - 1)
        meet, opened, top = torch.lerp(eye[left, 1:], eye[left + 1, 1:], (column - left)[:, None]).unbind(dim=1)
        edge = meet + openness * (opened - meet)
        above = (column >= 0) & (column <= last) & (z >= edge) & (z < top)
        rise += torch.where(above, (top - z) * (opened - edge) / (top - edge), 0.0)
    return rise
