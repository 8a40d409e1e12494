"""From the tracker's axes to the world of the data set."""

import numpy as np
import pytest
from support.capture_scene import make_scene

from ntalker_ns.capture.placing import Placing, place_head
from ntalker_ns.errors import NTalkerError


def head_masks(track, frames):
    """The face's own discs, as head labels."""
    import cv2

    masks = []
    for i in frames:
        mask = np.zeros((512, 512), np.uint8)
        hull = cv2.convexHull(track.project()[i].astype(np.int32))
        cv2.fillConvexPoly(mask, hull, (1,))
        masks.append(mask.astype(bool))
    return masks


def placed_scene() -> tuple:
    scene = make_scene(frames=30, noise=0.0)
    frames = list(range(0, 30, 3))
    return scene.track, place_head(scene.track, frames, head_masks(scene.track, frames))


def test_the_world_projects_like_the_tracker():
    track, placed = placed_scene()
    world = placed.points(track.shape)
    for i, c2w in enumerate(placed.camera_to_worlds(track)):
        camera = (world - c2w[:3, 3]) @ c2w[:3, :3]  # OpenGL: x right, y up, z back
        pixels = track.focal * np.stack([camera[:, 0], -camera[:, 1]], axis=1) / -camera[:, 2:] + track.centre
        assert np.allclose(pixels, track.project()[i], atol=1e-6)
        assert np.allclose(c2w[:3, :3] @ c2w[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(c2w[:3, :3]) > 0


def test_the_head_stands_upright_and_looks_along_minus_y():
    track, placed = placed_scene()
    cameras = placed.camera_to_worlds(track)
    centre = cameras[:, :3, 3].mean(axis=0)
    assert centre[1] < -2 and abs(centre[2]) < 0.3 * -centre[1]
    up = cameras[:, :3, 1].mean(axis=0)
    assert up[2] > 0.9
    front = placed.points(track.shape)[:, 1]
    assert front.min() < -0.2


def test_the_head_fills_the_unit_box_and_no_more():
    track, placed = placed_scene()
    world = placed.points(track.shape)
    assert np.abs(world[:, [0, 2]]).max() <= 1.0
    assert np.abs(world).max() > 0.7


def test_scale_and_axes_form_a_similarity():
    _, placed = placed_scene()
    a, b = np.random.default_rng(0).normal(size=(2, 3))
    assert np.isclose(np.linalg.norm(placed.points(a) - placed.points(b)), placed.scale * np.linalg.norm(a - b))
    assert np.allclose(Placing(np.eye(3), a, 2.0).points(a), 0.0)


def test_no_head_at_all_is_refused():
    scene = make_scene(frames=6)
    with pytest.raises(NTalkerError, match="No head was labelled in any of the 2 frames"):
        place_head(scene.track, [0, 3], [np.zeros((512, 512), bool)] * 2)
