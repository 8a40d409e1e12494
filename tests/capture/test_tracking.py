"""The joint solve against a made-up head whose poses are known."""

from dataclasses import replace

import numpy as np
import pytest
from support.capture_scene import make_scene, rotation_error

from ntalker_ns.capture import tracking
from ntalker_ns.capture.tracking import Track, TrackingOptions
from ntalker_ns.face import mesh_indices, rotations

OPTIONS = TrackingOptions(focal_prior=1000.0)
CENTRE = np.array([256.0, 256.0])


def solve(landmarks: np.ndarray, options: TrackingOptions = OPTIONS) -> Track:
    return tracking.solve_track(landmarks, CENTRE, options)


def test_known_poses_are_found():
    scene = make_scene(noise=0.3)
    solved = solve(scene.landmarks)
    assert rotation_error(solved.rotation, scene.track.rotation).max() < 0.6
    # Two coordinates of 0.3 px noise each.
    assert tracking.residual_px(solved, scene.landmarks[..., :2]) == pytest.approx(0.3 * np.sqrt(2), rel=0.1)


def test_without_noise_the_shape_projects_exactly():
    scene = make_scene(frames=40, noise=0.0)
    weak = replace(
        OPTIONS, rotation_acceleration=5.0, shift_acceleration=10.0, depth_acceleration=0.05, shape_spread=1.0
    )
    solved = solve(scene.landmarks, weak)
    assert np.abs(solved.project() - scene.track.project()).max() < 0.1


def test_a_wrong_focal_prior_bends_toward_the_truth():
    scene = make_scene(frames=80, noise=0.05)
    options = replace(OPTIONS, focal_prior=1300.0, shape_spread=1.0)
    assert solve(scene.landmarks, options).focal < 1250


def test_a_head_that_hardly_turns_stays_as_deep_as_heads_are():
    # Such motion costs the acceleration penalty dearly: a deeper head needs less of it.
    scene = make_scene(frames=200, noise=0.3, nodding=0.01)
    solved = solve(scene.landmarks)
    depth = [np.ptp(track.shape[mesh_indices.RIGID, 2]) for track in (solved, scene.track)]
    assert depth[0] == pytest.approx(depth[1], rel=0.2)


@pytest.mark.parametrize("cut", [0, 30, 59])
def test_the_frames_beside_a_cut_are_tracked_poorly(cut: int):
    scene = make_scene()
    assert not tracking.poorly_tracked(tracking.frame_residuals(solve(scene.landmarks), scene.landmarks[..., :2])).any()
    zoomed = scene.landmarks.copy()
    zoomed[cut:, :, :2] = 256.0 + 1.4 * (zoomed[cut:, :, :2] - 256.0)
    zoomed[50:53] = np.nan
    residuals = tracking.frame_residuals(solve(zoomed), zoomed[..., :2])
    poor = np.flatnonzero(tracking.poorly_tracked(residuals))
    assert np.isnan(residuals[50:53]).all()
    # A clip may begin anywhere.
    assert (poor.size > 0) == (cut > 0)
    assert np.abs(poor - cut + 0.5).max(initial=0.0) < 3


def test_outliers_do_not_pull_the_poses():
    scene = make_scene()
    spoilt = scene.landmarks.copy()
    spoilt[:, mesh_indices.RIGID[:4], 0] += 25.0 * (np.arange(len(spoilt)) % 7 == 0)[:, None]
    assert rotation_error(solve(spoilt).rotation, scene.track.rotation).max() < 0.8


def test_poses_are_held_where_the_clip_begins_or_ends_without_a_face():
    scene = make_scene()
    seen = np.arange(60)
    holed = np.where(((seen >= 8) & (seen < 50) & (seen != 30))[:, None, None], scene.landmarks, np.nan)
    solved = solve(holed)
    held = tracking.hold_ends(solved)
    for name in ("rotation", "translation"):
        poses = getattr(held, name)
        assert np.array_equal(poses[:8], np.repeat(poses[8:9], 8, axis=0))
        assert np.array_equal(poses[50:], np.repeat(poses[49:50], 10, axis=0))
        assert np.array_equal(poses[8:50], getattr(solved, name)[8:50])


def test_a_gap_is_bridged_near_the_truth():
    scene = make_scene()
    holed = scene.landmarks.copy()
    holed[20:26] = np.nan
    solved = solve(holed)
    assert not solved.valid[20:26].any() and solved.valid.sum() == 54
    assert rotation_error(solved.rotation, scene.track.rotation)[20:26].max() < 1.0
    assert np.isfinite(solved.translation).all()


@pytest.mark.parametrize("missing", [slice(0, 5), slice(55, 60)])
def test_a_gap_at_an_end_stays_finite_and_close(missing: slice):
    scene = make_scene()
    holed = scene.landmarks.copy()
    holed[missing] = np.nan
    assert rotation_error(solve(holed).rotation, scene.track.rotation).max() < 4.0


def test_smoothing_does_not_lag():
    scene = make_scene(noise=0.3)
    solved = solve(scene.landmarks, replace(OPTIONS, rotation_acceleration=0.1))
    truth = rotations.log(scene.track.rotation)[:, 1]
    found = rotations.log(solved.rotation)[:, 1]
    errors = [np.std(np.roll(found, shift)[5:-5] - truth[5:-5]) for shift in (-1, 0, 1)]
    assert int(np.argmin(errors)) == 1


def test_jitter_and_residual_are_what_they_say():
    scene = make_scene(noise=0.0)
    shaken = replace(scene.track, rotation=rotations.exp(np.zeros((60, 3))))
    assert rotations.jitter(shaken.rotation) == 0.0
    alternating = np.zeros((60, 3))
    alternating[::2, 0] = np.radians(0.5)
    assert rotations.jitter(rotations.exp(alternating)) == pytest.approx(1.0)
    assert tracking.residual_px(scene.track, scene.track.project() + np.array([3.0, 4.0])) == pytest.approx(5.0)


def test_the_same_landmarks_give_the_same_track():
    landmarks = make_scene(frames=20).landmarks
    assert np.array_equal(solve(landmarks).rotation, solve(landmarks).rotation)


def test_derivatives_agree_with_finite_differences():
    scene = make_scene(frames=3)
    small = replace(scene.track, shape=scene.track.shape[:5])
    observed = scene.landmarks[:, :5, :2]
    _, by_pose, by_shape, by_focal = tracking.linearise(small, observed)
    step = 1e-6

    def residual(track: Track) -> np.ndarray:
        return track.project() - observed

    for k in range(3):
        unit = np.eye(3)[k] * step
        turned = replace(small, rotation=rotations.exp(np.tile(unit, (3, 1))) @ small.rotation)
        moved = replace(small, translation=small.translation + unit)
        bent = replace(small, shape=small.shape + unit)
        for changed, derivative in ((turned, by_pose[..., k]), (moved, by_pose[..., 3 + k]), (bent, by_shape[..., k])):
            assert np.allclose((residual(changed) - residual(small)) / step, derivative, atol=1e-2, rtol=1e-3)
    longer = replace(small, focal=small.focal * np.exp(step))
    assert np.allclose((residual(longer) - residual(small)) / step, by_focal, atol=1e-2, rtol=1e-3)
