"""What lips and jaw do in a frame, in a few numbers.

A few seconds of speech are too little to learn from pictures alone what sounds do to a mouth: a network that hears
400 frames and must paint them learns the frames by heart. The landmarks say what the mouth does. So the field is
conditioned on the measured shape of lips and jaw while it learns to paint them, and the audio encoder learns from
the landmarks to predict that shape from what is heard: two small problems instead of one large one. A shape is linear
in the landmarks, so it also says where they are: the field is bent along with them (`ntalker_ns.field.lip_warp`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.anchors import point_rays, triangulate

LIP_SHAPE_DIM = 6
"""Numbers that describe a shape."""

MESH_LIPS = (
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    *(172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397),
)
"""Outer lips, inner lips and jaw in mediapipe's face mesh."""

IBUG_LIPS = (*range(48, 68), *range(4, 13))
"""The same among the 68 points that AD-NeRF and its followers store."""


@dataclass(frozen=True)
class LipSpace:
    """Shapes of lips and jaw in a few numbers, and where each of these moves the landmarks."""

    shapes: Float[np.ndarray, "n 6"]
    """A row a frame."""
    places: Float[np.ndarray, "points 2"]
    """Mean place of each landmark in the head: x (sideways) and z (up), world units."""
    motions: Float[np.ndarray, "6 points 2"]
    """How far each landmark moves along x and z for one unit of each component, world units."""


def lip_space(
    landmarks: Float[np.ndarray, "n points 2"],
    camera_to_worlds: Float[np.ndarray, "n 3 4"],
    intrinsics: tuple[float, float, float, float],
    is_train: Bool[np.ndarray, " n"],
) -> LipSpace:
    """Shapes of lips and jaw, free of head pose: how far their landmarks are from where a stiff head has them.

    The mean 3D place of each landmark is triangulated over the training frames; what is left between its projection
    and the landmark, turned into the head's sideways and upward axes, is reduced by principal components of the
    training frames. All components are divided by the standard deviation of the first, so that a component counts as
    much as it moves the lips.

    Args:
        landmarks: in px, NaN where a frame has none (its shape is then interpolated in time).
        camera_to_worlds: OpenGL matrices.
        intrinsics: fl_x, fl_y, cx, cy in px.
        is_train: the frames that the shape space is made from.

    Returns:
        float32 arrays; components beyond what the training frames span are 0.
    """
    points = landmarks[:, list(MESH_LIPS if landmarks.shape[1] >= 468 else IBUG_LIPS)].astype(np.float64)
    seen = np.isfinite(points).all(axis=(1, 2))
    train = seen & is_train
    placed = [_place_and_offsets(points[:, j], camera_to_worlds, intrinsics, train) for j in range(points.shape[1])]
    places = np.stack([place for place, _ in placed])
    offsets = np.stack([offset for _, offset in placed], axis=1).reshape(len(points), -1)
    center = offsets[train].mean(axis=0)
    _, spread, axes = np.linalg.svd(offsets[train] - center, full_matrices=False)
    unit = max(float(spread[0]) / np.sqrt(train.sum()), 1e-9)
    shapes = np.zeros((len(points), LIP_SHAPE_DIM))
    motions = np.zeros((LIP_SHAPE_DIM, offsets.shape[1]))
    used = min(LIP_SHAPE_DIM, len(axes))
    shapes[:, :used] = (offsets - center) @ axes[:used].T / unit
    motions[:used] = axes[:used] * unit
    return LipSpace(
        shapes=_fill_gaps(shapes, seen).astype(np.float32),
        places=(places + center.reshape(-1, 2)).astype(np.float32),
        motions=motions.reshape(LIP_SHAPE_DIM, -1, 2).astype(np.float32),
    )


def _place_and_offsets(
    points: Float[np.ndarray, "n 2"],
    camera_to_worlds: Float[np.ndarray, "n 3 4"],
    intrinsics: tuple[float, float, float, float],
    train: Bool[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "n 2"]]:
    """The mean place of one landmark and how far it is from there, along the head's x and z axes in world units."""
    place = triangulate(*point_rays(points[train], camera_to_worlds[train], intrinsics))
    origins, directions = point_rays(points, camera_to_worlds, intrinsics)
    towards = place - origins
    on_ray = directions * np.einsum("ni,ni->n", towards, directions)[:, None]
    return place[[0, 2]], (on_ray - towards)[:, [0, 2]]


def _fill_gaps(shapes: Float[np.ndarray, "n 6"], seen: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n 6"]:
    frames = np.arange(len(shapes))
    return np.stack([np.interp(frames, frames[seen], column[seen]) for column in shapes.T], axis=1)
