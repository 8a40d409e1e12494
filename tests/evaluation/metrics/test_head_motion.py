"""Head poses and jitter of a rigid face whose motion is known."""

import numpy as np
import pytest

from ntalker_ns.evaluation.metrics.head_motion import head_rotations, rotation_jitter
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.face import rotations

SIZE, FOCAL = 512, 1024.0


def yaw(degrees: np.ndarray) -> np.ndarray:
    angles = np.radians(np.asarray(degrees, float))
    return rotations.exp(np.stack([np.zeros_like(angles), angles, np.zeros_like(angles)], axis=-1))


def seen(poses: np.ndarray) -> np.ndarray:
    """Landmarks of a rigid random face under the given rotations, with relative depth as mediapipe gives it."""
    rng = np.random.default_rng(0)
    shape = rng.normal(0, 1, (478, 3)) * [0.7, 1.0, 0.4]
    points = shape @ np.swapaxes(poses, 1, 2) + [0.0, 0.0, 9.0]
    flat = FOCAL * points[..., :2] / points[..., 2:] + SIZE / 2
    depth = FOCAL / 9.0 * (points[..., 2:] - 9.0)
    return np.concatenate([flat, depth], axis=-1)


def test_steady_turning_has_no_jitter():
    assert rotation_jitter(yaw(2.0 * np.arange(20))) == pytest.approx(0.0, abs=1e-6)


def test_shaking_is_the_second_difference():
    # 0, 1, 0, 1, .. degrees: steps of +1 and -1, which differ by 2.
    assert rotation_jitter(yaw(np.arange(20) % 2)) == pytest.approx(2.0, abs=1e-6)


def test_unknown_frames_are_left_out_with_their_neighbours():
    poses = yaw(np.array([0, 0, 0, 0, 40, 0, 0, 0, 0.0]))
    poses[4] = np.nan
    assert rotation_jitter(poses) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(Unavailable, match="three frames in a row"):
        rotation_jitter(np.where(np.arange(9)[:, None, None] % 3 == 0, np.nan, poses))


def test_poses_are_measured_without_smoothing():
    angles = 10 * np.sin(np.arange(40) * 0.3) + 0.8 * (np.arange(40) % 2)
    landmarks = seen(yaw(angles))
    landmarks[17] = np.nan
    measured = head_rotations(landmarks, SIZE, SIZE)
    assert np.isnan(measured[17]).all()
    true = yaw(angles)
    true[17] = np.nan
    assert rotation_jitter(measured) == pytest.approx(rotation_jitter(true), rel=0.03)


def test_too_few_faces_are_unavailable():
    landmarks = seen(yaw(np.zeros(7)))
    with pytest.raises(Unavailable, match="at least 8 frames"):
        head_rotations(landmarks, SIZE, SIZE)
