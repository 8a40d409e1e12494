"""Low-dimensional shape bases of lips and jaw, and of the brows: principal components of their landmarks.

A few seconds of speech are too few to learn from pictures alone what sounds do to a mouth: a network with 400 frames
memorises them. So the field is conditioned on the measured lip shape, and the shape is predicted from audio by a model
fitted to the landmarks: two small problems instead of one large one. A shape is linear in the landmarks, so it also
gives their positions, and the field is warped along with them (`ntalker_ns.field.landmark_warp`).

Brows follow no sound that could be learned from so little: their shape is replayed with the head's pose, and the field
is warped along.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.face.keypoints import point_rays, triangulate
from ntalker_ns.face.mesh_indices import LandmarkSet, landmark_set

LIP_SHAPE_DIM = 6
"""Components of a lip shape (lips and jaw)."""
BROW_SHAPE_DIM = 3
"""Components of a brow shape."""
BROW_SMOOTHING = 1.0
"""Standard deviation of the Gaussian that brow shapes are smoothed with, frames."""


@dataclass(frozen=True)
class LandmarkSpace:
    """A shape basis of a part of the face, and every frame's coefficients."""

    shapes: Float[np.ndarray, "n dim"]
    """Coefficients per frame."""
    places: Float[np.ndarray, "points 2"]
    """Mean position of each landmark in the head: x (sideways) and z (up), world units."""
    motions: Float[np.ndarray, "dim points 2"]
    """The basis: movement of each landmark along x and z for one unit of each component, world units."""


@dataclass(frozen=True)
class PosedLandmarks:
    """Landmarks of all frames and the cameras that see them."""

    landmarks: Float[np.ndarray, "n points 2"]
    """In px, NaN where a frame has none."""
    camera_to_worlds: Float[np.ndarray, "n 3 4"]
    """OpenGL matrices."""
    intrinsics: tuple[float, float, float, float]
    """fl_x, fl_y, cx, cy in px."""
    is_train: Bool[np.ndarray, " n"]
    """The frames that bases are fitted to."""

    @property
    def points(self) -> LandmarkSet:
        """Which of the landmarks are which part of the face."""
        return landmark_set(self.landmarks.shape[1])

    def tracks(self, indices: tuple[int, ...]) -> tuple[Float[np.ndarray, "n chosen 2"], Bool[np.ndarray, " n"]]:
        """Positions of some landmarks in the head (x and z, world units), freed of its pose, and the frames in which
        all of them are seen.

        The mean 3D position of each is triangulated over the training frames; the offset of the landmark from its
        projection is expressed along the head's x and z.
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
    """The basis of lips and jaw, `LIP_SHAPE_DIM` components."""
    return _space(face, face.points.lips, LIP_SHAPE_DIM)


def brow_space(face: PosedLandmarks) -> LandmarkSpace:
    """The basis of the brows, `BROW_SHAPE_DIM` components, smoothed in time: fast movement is landmark noise."""
    from scipy.ndimage import gaussian_filter1d

    space = _space(face, face.points.brows, BROW_SHAPE_DIM)
    return replace(space, shapes=gaussian_filter1d(space.shapes, BROW_SMOOTHING, axis=0, mode="nearest"))


def _space(face: PosedLandmarks, indices: tuple[int, ...], dim: int) -> LandmarkSpace:
    """Principal components of some landmarks' tracks over the training frames.

    All coefficients are divided by the standard deviation of the first, so that a component counts as much as it moves
    the landmarks; components beyond the training frames' span are 0. Frames without landmarks are interpolated in time.
    """
    tracks, seen = face.tracks(indices)
    flat, train = tracks.reshape(len(tracks), -1), seen & face.is_train
    center = flat[train].mean(axis=0)
    _, deviations, axes = np.linalg.svd(flat[train] - center, full_matrices=False)
    unit = max(float(deviations[0]) / np.sqrt(train.sum()), 1e-9)
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
