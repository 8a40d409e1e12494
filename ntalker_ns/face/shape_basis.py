"""What lips and jaw do in a frame, and what the brows do, each in a few numbers.

A few seconds of speech are too little to learn from pictures alone what sounds do to a mouth: a network that hears
400 frames and must paint them learns the frames by heart. The landmarks say what the mouth does. So the field is
conditioned on the measured shape of lips and jaw while it learns to paint them, and the audio encoder learns from
the landmarks to predict that shape from what is heard: two small problems instead of one large one. A shape is linear
in the landmarks, so it also says where they are: the field is bent along with them (`ntalker_ns.field.landmark_warp`).

Brows follow no sound that could be learned from so little. Their shape is replayed with the head's pose, and the field
is bent along; it is told nothing else of them.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.face.keypoints import point_rays, triangulate

LIP_SHAPE_DIM = 6
"""Numbers that describe a shape of lips and jaw."""
BROW_SHAPE_DIM = 3
"""Numbers that describe a shape of the brows."""
BROW_SMOOTHING = 1.0
"""Standard deviation of the Gaussian that brow shapes are smoothed with, frames."""

MESH_LIPS = (
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    *(172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397),
)
"""Outer lips, inner lips and jaw in mediapipe's face mesh."""
MESH_BROWS = (
    *(70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    *(10, 109, 67, 103, 338, 297, 332, 151, 108, 337, 69, 299),
    *(33, 133, 362, 263, 168, 6, 122, 351, 127, 356, 34, 264, 21, 251, 116, 345),
)
"""Brows; and what rests around them: forehead, corners of the eyes, root of the nose, temples."""

IBUG_LIPS = (*range(48, 68), *range(4, 13))
"""The lips among the 68 points that AD-NeRF and its followers store."""
IBUG_BROWS = (*range(17, 31), 36, 39, 42, 45, 0, 1, 15, 16)
"""The brows, likewise."""


@dataclass(frozen=True)
class LandmarkSpace:
    """Shapes of a part of the face in a few numbers, and where each of these moves the landmarks."""

    shapes: Float[np.ndarray, "n dim"]
    """A row a frame."""
    places: Float[np.ndarray, "points 2"]
    """Mean place of each landmark in the head: x (sideways) and z (up), world units."""
    motions: Float[np.ndarray, "dim points 2"]
    """How far each landmark moves along x and z for one unit of each component, world units."""


@dataclass(frozen=True)
class PosedLandmarks:
    """Landmarks and what sees them."""

    landmarks: Float[np.ndarray, "n points 2"]
    """In px, NaN where a frame has none."""
    camera_to_worlds: Float[np.ndarray, "n 3 4"]
    """OpenGL matrices."""
    intrinsics: tuple[float, float, float, float]
    """fl_x, fl_y, cx, cy in px."""
    is_train: Bool[np.ndarray, " n"]
    """The frames that spaces are made from."""

    @property
    def is_mesh(self) -> bool:
        """Whether they are mediapipe's mesh; otherwise the 68 of AD-NeRF."""
        return self.landmarks.shape[1] >= 468

    def tracks(self, indices: tuple[int, ...]) -> tuple[Float[np.ndarray, "n chosen 2"], Bool[np.ndarray, " n"]]:
        """Where some landmarks are in the head, along its x and z in world units, free of its pose; and in which frames
        all of them are seen.

        The mean 3D place of each is triangulated over the training frames; what is left between its projection and the
        landmark is turned into the head's sideways and upward axes.
        """
        points = self.landmarks[:, list(indices)].astype(np.float64)
        seen = np.isfinite(points).all(axis=(1, 2))
        train = seen & self.is_train
        return np.stack([self._track(points[:, j], train) for j in range(points.shape[1])], axis=1), seen

    def _track(self, points: Float[np.ndarray, "n 2"], train: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        place = triangulate(*point_rays(points[train], self.camera_to_worlds[train], self.intrinsics))
        origins, directions = point_rays(points, self.camera_to_worlds, self.intrinsics)
        towards = place - origins
        on_ray = directions * np.einsum("ni,ni->n", towards, directions)[:, None]
        return (place + on_ray - towards)[:, [0, 2]]


def lip_space(face: PosedLandmarks) -> LandmarkSpace:
    """Shapes of lips and jaw."""
    return _space(face, MESH_LIPS if face.is_mesh else IBUG_LIPS, LIP_SHAPE_DIM)


def brow_space(face: PosedLandmarks) -> LandmarkSpace:
    """Shapes of the brows, smoothed in time: brows are slow, and what is fast is noise of their landmarks."""
    from scipy.ndimage import gaussian_filter1d

    space = _space(face, MESH_BROWS if face.is_mesh else IBUG_BROWS, BROW_SHAPE_DIM)
    return replace(space, shapes=gaussian_filter1d(space.shapes, BROW_SMOOTHING, axis=0, mode="nearest"))


def _space(face: PosedLandmarks, indices: tuple[int, ...], dim: int) -> LandmarkSpace:
    """Principal components of some landmarks' tracks over the training frames.

    All components are divided by the standard deviation of the first, so that a component counts as much as it moves
    the landmarks; those beyond what the training frames span are 0. Where a frame has no landmarks its shape is
    interpolated in time.
    """
    tracks, seen = face.tracks(indices)
    flat, train = tracks.reshape(len(tracks), -1), seen & face.is_train
    center = flat[train].mean(axis=0)
    _, spread, axes = np.linalg.svd(flat[train] - center, full_matrices=False)
    unit = max(float(spread[0]) / np.sqrt(train.sum()), 1e-9)
    shapes, motions = np.zeros((len(flat), dim)), np.zeros((dim, flat.shape[1]))
    used = min(dim, len(axes))
    shapes[:, :used] = (flat - center) @ axes[:used].T / unit
    motions[:used] = axes[:used] * unit
    return LandmarkSpace(
        shapes=_fill_gaps(shapes, seen).astype(np.float32),
        places=center.reshape(-1, 2).astype(np.float32),
        motions=motions.reshape(dim, -1, 2).astype(np.float32),
    )


def _fill_gaps(shapes: Float[np.ndarray, "n dim"], seen: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n dim"]:
    frames = np.arange(len(shapes))
    return np.stack([np.interp(frames, frames[seen], column[seen]) for column in shapes.T], axis=1)
