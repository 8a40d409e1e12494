"""Where Gaussians begin, against a surface of known depth and the camera's projection."""

import numpy as np
import pytest
import torch
from support.synthetic_clip import poses, project, true_keypoints

from ntalker_ns.splats.start import HIDDEN_OPACITY, INSIDE, SeenHead, depth_along, fill_behind, round_surface, unproject

SIZE, FOCAL = 64, 120.0


def seen(where: np.ndarray | None = None) -> SeenHead:
    rng = np.random.default_rng(0)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:44, 16:40] = True
    image = rng.random((SIZE, SIZE, 3))
    return SeenHead(image, mask if where is None else where, poses(3)[1][:3], (FOCAL, FOCAL, SIZE / 2, SIZE / 2))


def test_they_lie_on_the_surface_behind_their_pixels():
    frame, surface = seen(), np.full((64, 64), -0.3)
    found = unproject(frame, 500, 0.7, surface, 0.0, np.random.default_rng(0)).numpy().astype(np.float64)
    places = project(found[:, :3], frame.camera_to_world, FOCAL, (SIZE / 2, SIZE / 2))
    columns, rows = np.floor(places).astype(int).T
    assert frame.where[rows, columns].all()
    np.testing.assert_allclose(found[:, 11:], frame.image[rows, columns], atol=1e-6)
    # The march has steps of 1 / 80.
    assert (found[:, 1] >= -0.3 - 1e-9).all() and (found[:, 1] < -0.3 + 0.02).all()
    distance = np.linalg.norm(found[:, :3] - frame.camera_to_world[:, 3], axis=1)
    np.testing.assert_allclose(np.exp(found[:, 3]), 0.7 * distance / FOCAL, rtol=1e-5)


def test_what_no_frame_shows_is_filled_evenly_and_behind():
    # A roof: its left half is as deep everywhere, its right half recedes 1.5 times as fast as it goes aside.
    across = (np.arange(256) + 0.5) / 128 - 1.0
    surface = np.repeat((-0.3 + 1.5 * np.maximum(across, 0.0))[:, None], 256, axis=1)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[12:52, 12:52] = True
    camera = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, -4.0], [0, 1.0, 0, 0]])
    frame = SeenHead(np.ones((SIZE, SIZE, 3)), mask, camera, (FOCAL, FOCAL, SIZE / 2, SIZE / 2))
    found = fill_behind(frame, 4000, 3.0, surface, 0.2, np.random.default_rng(0)).numpy().astype(np.float64)
    x, y = found[:, 0], found[:, 1]
    front = np.interp(x, across, surface[:, 0])
    assert (y > front).all() and (y < front + 0.2 + 0.15).all()
    # Equally many for each area: the slope's is sqrt(3.25) times as large.
    near = np.abs(x) < 0.25
    left, right = ((near & side).sum() for side in (x < 0, x > 0))
    assert right / left == pytest.approx(np.sqrt(3.25), rel=0.2)
    sizes = np.exp(found[:, 3]) * FOCAL / np.linalg.norm(found[:, :3] - camera[:, 3], axis=1)
    pixels = project(found[:, :3], camera, FOCAL, (SIZE / 2, SIZE / 2))
    assert np.abs(pixels - SIZE / 2).max() < 20 - INSIDE * sizes.mean() + 2
    # What a ray along the axis passes in the left half, for which pixels and areas are the same.
    per_area = ((x < -0.05) & near).sum() / (0.2 * np.ptp(found[:, 2]))
    passed = per_area * 2.0 * np.pi * np.exp(found[:, 3]).mean() ** 2 * -np.log1p(-HIDDEN_OPACITY)
    assert passed > 2.0
    empty = SeenHead(frame.image, np.zeros((SIZE, SIZE), bool), camera, frame.intrinsics)
    assert len(fill_behind(empty, 10, 3.0, surface, 0.2, np.random.default_rng(0))) == 0


def test_more_than_there_are_pixels_and_none_at_all():
    few = np.zeros((SIZE, SIZE), bool)
    few[30, 30:33] = True
    rng, surface = np.random.default_rng(0), np.zeros((8, 8))
    assert unproject(seen(few), 50, 1.0, surface, 0.1, rng).shape == (50, 14)
    assert unproject(seen(np.zeros((SIZE, SIZE), bool)), 50, 1.0, surface, 0.1, rng).shape == (0, 14)


def test_a_ray_that_passes_the_surface_ends_beside_the_head():
    origins, directions = np.array([[0.0, -4.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    assert depth_along(origins, directions, np.full((4, 4), 9.0))[0] == pytest.approx(4.0)


def test_without_a_tracked_face_there_is_a_ball():
    keypoints = true_keypoints()
    surface = torch.from_numpy(round_surface(keypoints, 65))
    eyes = 0.5 * (keypoints["left_eye"] + keypoints["right_eye"])
    middle = 0.5 * (eyes + keypoints["mouth"])
    # In front of the middle of the face it is as deep as eyes and mouth, and deeper away from it.
    assert float(surface.min()) == pytest.approx(middle[1], abs=0.02)
    assert surface[32, 28] < surface[45, 28] < surface[64, 28]
