"""Head jitter: the head's pose measured on pictures, and the second difference of its rotation."""

import numpy as np
from jaxtyping import Float, Float64

from ntalker_ns.capture.tracking import TrackingOptions, solve_track
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.face import rotations

FREE = 1e3
"""By how much the tracker's expectation of even motion is loosened: what it smooths away could not be measured."""
LEAST_FRAMES = 8
"""Fewer do not determine the shape of a head."""


def head_rotations(landmarks: Float[np.ndarray, "n 478 3"], width: int, height: int) -> Float64[np.ndarray, "n 3 3"]:
    """The head's rotation in each frame: one rigid shape seen by one camera, not smoothed.

    Args:
        landmarks: x and y in px, mediapipe's relative depth in the same unit; NaN rows where no face was found.
        width: of the pictures, px.
        height: of the pictures, px.

    Returns:
        Rotations, NaN where no face was found.

    Raises:
        Unavailable: too few frames have a face.
    """
    known = np.isfinite(landmarks).all(axis=(1, 2))
    if known.sum() < LEAST_FRAMES:
        raise Unavailable(f"head poses need at least {LEAST_FRAMES} frames with a face, and there are {known.sum()}")
    size = max(width, height)
    usual = TrackingOptions.for_size(size, focal_prior=2.0 * size)
    options = TrackingOptions(
        usual.focal_prior,
        noise=usual.noise,
        rotation_acceleration=FREE * usual.rotation_acceleration,
        shift_acceleration=FREE * usual.shift_acceleration,
        depth_acceleration=FREE * usual.depth_acceleration,
    )
    track = solve_track(landmarks[known], np.array([width, height]) / 2.0, options)
    poses = np.full((len(known), 3, 3), np.nan)
    poses[known] = track.rotation
    return poses


def rotation_jitter(poses: Float[np.ndarray, "n 3 3"]) -> float:
    """`ntalker_ns.face.rotations.jitter` of poses, NaN where unknown.

    Raises:
        Unavailable: no three frames in a row are known.
    """
    found = rotations.jitter(poses)
    if np.isnan(found):
        raise Unavailable("no three frames in a row show a face")
    return found
