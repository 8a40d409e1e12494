"""From the tracker's axes to the world of the data set: head upright at the origin, inside the unit box."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.capture.tracking import Track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face import mesh_indices, rotations

FILL = 0.95
"""Share of the box's half side that the head may reach."""
FROM_CV = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""World axes (x right, y away, z up) of a head that faces an OpenCV camera (x right, y down, z away)."""


@dataclass(frozen=True)
class Placing:
    """A similarity: world = scale * axes @ (head - centre)."""

    axes: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, "3"]
    scale: float

    def points(self, shape: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Takes points from the tracker's head axes to the world."""
        return self.scale * (shape - self.centre) @ self.axes.T

    def camera_to_worlds(self, track: Track) -> Float[np.ndarray, "n 4 4"]:
        """The cameras of a track, in OpenGL's axes (x right, y up, z back)."""
        matrices = np.tile(np.eye(4), (len(track.rotation), 1, 1))
        back = np.swapaxes(track.rotation, 1, 2)
        matrices[:, :3, :3] = self.axes @ back @ np.diag([1.0, -1.0, -1.0])
        matrices[:, :3, 3] = self.points(-np.einsum("nij,nj->ni", back, track.translation))
        return matrices


def place_head(track: Track, frames: Sequence[int], heads: Sequence[Bool[np.ndarray, "s s"]]) -> Placing:
    """Finds the head's axes, centre and size.

    Left and right come from the face's own symmetry; up is such that the camera looks level on average. The centre is
    half-way between highest and lowest hair or chin, in the face's plane of symmetry, a little behind the ears' front.
    The size is that of the head's outline, seen from all the frames given.

    Args:
        track: the solved clip.
        frames: indices of some frames.
        heads: their head labels (face, hair, ears).

    Returns:
        The similarity to the world.

    Raises:
        NTalkerError: no head is labelled in any of the frames.
    """
    axes = FROM_CV @ _upright_axes(track)
    ears = 0.5 * (track.shape[mesh_indices.RIGHT_EAR] + track.shape[mesh_indices.LEFT_EAR])
    width = float(np.linalg.norm(track.shape[mesh_indices.RIGHT_EAR] - track.shape[mesh_indices.LEFT_EAR]))
    middle = ears + axes.T @ np.array([0.0, 0.1 * width, 0.0])
    provisional = Placing(axes, middle, 1.0)
    outlines = [_extent(provisional, track, i, head) for i, head in zip(frames, heads, strict=True) if head.any()]
    if not outlines:
        raise NTalkerError(
            f"No head was labelled in any of the {len(frames)} frames looked at; check that the face is well lit, "
            "or give another --parsing-model."
        )
    low = np.percentile([o[0] for o in outlines], 5, axis=0)
    high = np.percentile([o[1] for o in outlines], 95, axis=0)
    centre = middle + axes.T @ np.array([0.0, 0.0, 0.5 * (low[2] + high[2])])
    front = -float(provisional.points(track.shape)[:, 1].min())
    reach = max(abs(low[0]), abs(high[0]), 0.5 * (high[2] - low[2]), front)
    return Placing(axes, centre, FILL / reach)


def _upright_axes(track: Track) -> Float[np.ndarray, "3 3"]:
    """Rows x (to the picture's right across the face), y (down), z (away), in the tracker's head axes."""
    across = sum((track.shape[left] - track.shape[right] for right, left in mesh_indices.MIRRORED_PAIRS), np.zeros(3))
    x = across / np.linalg.norm(across)
    view = -np.einsum("nij,ni->nj", track.rotation, track.translation).mean(axis=0)
    away = -(view - x * (view @ x))
    z = away / np.linalg.norm(away)
    return rotations.nearest(np.stack([x, np.cross(z, x), z]))


def _extent(placing: Placing, track: Track, frame: int, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest coordinates of a frame's head pixels, on the plane through the centre facing the camera."""
    # Every fourth pixel along and across: the outline's percentiles move by less than that.
    rows, columns = np.nonzero(head[::4, ::4])
    pixels = 4 * np.stack([columns, rows], axis=1) + 2.0
    rotation, translation = track.rotation[frame], track.translation[frame]
    depth = float((rotation @ placing.centre + translation)[2])
    rays = np.concatenate([(pixels - track.centre) / track.focal, np.ones((len(pixels), 1))], axis=1)
    points = placing.points((rays * depth - translation) @ rotation)
    return np.percentile(points, 0.2, axis=0), np.percentile(points, 99.8, axis=0)
