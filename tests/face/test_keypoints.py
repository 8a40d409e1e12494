"""Triangulation against known points."""

import numpy as np
import pytest
from support.synthetic_clip import KEYPOINTS, front, mesh_points, poses, project, true_keypoints

from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.keypoints import point_rays, triangulate, triangulate_keypoints
from ntalker_ns.face.mesh_indices import IBUG

INTRINSICS = (120.0, 120.0, 32.0, 32.0)


def landmarks_of(points: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    return np.stack([project(points, pose, INTRINSICS[0], INTRINSICS[2:]) for pose in cameras])


def test_exact_landmarks_give_the_points_back():
    cameras = poses(20)
    landmarks = landmarks_of(mesh_points(np.random.default_rng(0)), cameras)
    found = triangulate_keypoints(landmarks, cameras[:, :3], INTRINSICS)
    for name, point in true_keypoints().items():
        np.testing.assert_allclose(found[name], point, atol=2e-3)


def test_the_68_points_have_the_same_keypoints():
    cameras = poses(20)
    points = np.array([front(*place) for place in np.random.default_rng(1).uniform(-0.4, 0.4, (68, 2))])
    for name, indices in IBUG.keypoints.items():
        points[list(indices)] = front(*KEYPOINTS[name])
    found = triangulate_keypoints(landmarks_of(points, cameras), cameras[:, :3], INTRINSICS)
    for name, point in true_keypoints().items():
        np.testing.assert_allclose(found[name], point, atol=2e-3)


def test_outliers_and_missing_frames_do_not_matter():
    cameras = poses(40)
    rng = np.random.default_rng(2)
    landmarks = landmarks_of(mesh_points(rng), cameras) + rng.normal(0, 0.2, (40, 478, 2))
    landmarks[3] = np.nan
    landmarks[[5, 17, 30]] += 40
    found = triangulate_keypoints(landmarks, cameras[:, :3], INTRINSICS)
    for name, point in true_keypoints().items():
        np.testing.assert_allclose(found[name], point, atol=0.04)


def test_rays_go_through_the_point():
    cameras = poses(5)
    point = np.array([0.2, -0.4, 0.1])
    seen = landmarks_of(point[None], cameras)[:, 0]
    origins, directions = point_rays(seen, cameras[:, :3], INTRINSICS)
    expected = point - origins
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, expected, atol=1e-12)


def test_a_still_camera_puts_the_point_nearest_to_the_centre():
    origins = np.tile([0.0, -4.0, 0.3], (10, 1))
    directions = np.tile([0.0, 1.0, 0.0], (10, 1))
    np.testing.assert_allclose(triangulate(origins, directions), [0, 0, 0.3], atol=1e-4)


def test_a_head_on_its_side_is_refused():
    cameras = poses(20)
    landmarks = landmarks_of(mesh_points(np.random.default_rng(0)), cameras)
    turned = np.stack([64 - landmarks[..., 0], 64 - landmarks[..., 1]], axis=-1)
    with pytest.raises(NTalkerError, match="upright"):
        triangulate_keypoints(turned, cameras[:, :3], INTRINSICS)


def test_no_landmarks_are_an_error():
    cameras = poses(3)
    with pytest.raises(NTalkerError, match="landmarks of the mouth"):
        triangulate_keypoints(np.full((3, 478, 2), np.nan), cameras[:, :3], INTRINSICS)
    with pytest.raises(NTalkerError, match="not 5"):
        triangulate_keypoints(np.zeros((3, 5, 2)), cameras[:, :3], INTRINSICS)
