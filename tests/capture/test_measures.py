"""Eye openness, mouth opening and boxes."""

from dataclasses import replace

import numpy as np
from support.capture_scene import make_scene

from ntalker_ns.capture import measures
from ntalker_ns.face import mesh_indices


def test_landmarks_of_a_rigid_head_stand_still_in_its_axes():
    track = make_scene(noise=0.0).track
    points = measures.head_points(track, track.project())
    assert np.allclose(points, track.shape, atol=1e-9)


def face(frames: int = 100) -> np.ndarray:
    points = np.zeros((frames, 478, 3))
    points[:, mesh_indices.CHIN, 1] = 1.0
    points[:, mesh_indices.FOREHEAD_TOP, 1] = -1.0
    return points


def with_lids(gap: np.ndarray) -> np.ndarray:
    points = face(len(gap))
    for upper, lower in mesh_indices.RIGHT_EYELIDS + mesh_indices.LEFT_EYELIDS:
        points[:, upper, 1], points[:, lower, 1] = -0.5 * gap, 0.5 * gap
    return points


def test_eyes_that_blink_span_zero_to_one():
    gap = np.full(100, 0.10)
    gap[40:44] = [0.05, 0.01, 0.01, 0.06]
    openness = measures.eye_openness(with_lids(gap))
    assert openness[41] < 0.05 and openness[10] > 0.95
    assert openness.min() >= 0 and openness.max() <= 1


def test_eyes_that_never_blink_do_not_blink_by_noise():
    gap = 0.10 + 0.003 * np.random.default_rng(0).normal(size=200)
    assert measures.eye_openness(with_lids(gap)).min() > 0.8


def test_mouth_opening_is_the_gap_over_the_face():
    points = face()
    points[:, mesh_indices.LOWER_INNER_LIP, 1] = np.linspace(-0.02, 0.2, 100)
    opening = measures.mouth_opening(points)
    assert opening.min() == 0.0  # lips that cross in the noise are closed
    assert np.isclose(opening[-1], 0.1)


def test_unseen_frames_are_interpolated():
    points = face()
    points[:, mesh_indices.LOWER_INNER_LIP, 1] = np.linspace(0, 0.2, 100)
    holed = points.copy()
    holed[50:55] = np.nan
    assert np.allclose(measures.mouth_opening(holed), measures.mouth_opening(points))


def test_boxes_hold_their_points_and_stay_inside():
    track = make_scene(noise=0.0).track
    shifted = replace(track, translation=track.translation + np.array([1.5, 0, 0]))
    points = shifted.project()
    boxes = measures.box_around(points, 0.1, 512)
    assert boxes.min() >= 0 and boxes.max() <= 512
    inside = np.clip(points, 0, 512)
    assert (inside.min(axis=1) >= boxes[:, :2] - 1e-6).all() and (inside.max(axis=1) <= boxes[:, 2:] + 1e-6).all()
