"""Numbers read off the landmarks: how open the eyes and the mouth are, and the boxes of face and lips."""

import numpy as np
from jaxtyping import Float

from ntalker_ns.capture.tracking import Track
from ntalker_ns.face import mesh_indices
from ntalker_ns.face.eyelids import openness_of_gaps


def head_points(track: Track, landmarks: Float[np.ndarray, "n points 2"]) -> Float[np.ndarray, "n points 3"]:
    """Landmarks in the head's own axes, so that turning the head changes nothing.

    Each landmark is taken to lie as deep as the same point of the rigid shape.

    Args:
        track: the solved poses and shape.
        landmarks: px.

    Returns:
        Points in the shape's units; NaN where the landmarks are.
    """
    depth = track.camera_points()[..., 2:]
    rays = (landmarks - track.centre) / track.focal
    points = np.concatenate([rays * depth, depth], axis=-1) - track.translation[:, None]
    return points @ track.rotation


def eye_openness(points: Float[np.ndarray, "n 478 3"]) -> Float[np.ndarray, "n"]:
    """How open the eyes are, see `openness_of_gaps`.

    Args:
        points: landmarks in head axes; NaN rows are interpolated.

    Returns:
        One number per frame.
    """
    gaps = [_gap(points, upper, lower) for upper, lower in mesh_indices.RIGHT_EYELIDS + mesh_indices.LEFT_EYELIDS]
    return openness_of_gaps(_bridge(np.mean(gaps, axis=0)))


def mouth_opening(points: Float[np.ndarray, "n 478 3"]) -> Float[np.ndarray, "n"]:
    """Gap between the inner lips as a fraction of the face's height (middle of the forehead to chin, clip median).

    Args:
        points: landmarks in head axes; NaN rows are interpolated.

    Returns:
        One number per frame, about 0 (closed) to 0.2 (wide open).
    """
    height = np.nanmedian(_gap(points, mesh_indices.FOREHEAD_TOP, mesh_indices.CHIN))
    return _bridge(_gap(points, mesh_indices.UPPER_INNER_LIP, mesh_indices.LOWER_INNER_LIP)) / height


def box_around(landmarks: Float[np.ndarray, "n points 2"], margin: float, size: int) -> Float[np.ndarray, "n 4"]:
    """Boxes x0, y0, x1, y1 around points, in px, inside the frame.

    Args:
        landmarks: px; NaN rows are interpolated.
        margin: added on every side, as a fraction of the box's longer side.
        size: side of the frame in px.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    extra = margin * (high - low).max(axis=1, keepdims=True)
    boxes = np.concatenate([low - extra, high + extra], axis=1)
    return np.clip(np.stack([_bridge(boxes[:, k]) for k in range(4)], axis=1), 0, size)


def _gap(points: np.ndarray, upper: int, lower: int) -> np.ndarray:
    """Distance down the face; lids and lips that cross in the noise count as closed."""
    return np.maximum(points[:, lower, 1] - points[:, upper, 1], 0.0)


def _bridge(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known])
