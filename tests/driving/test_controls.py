"""Eyes and head poses that a user asks for, against closed forms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.sequences import make_sequence
from support.synthetic_clip import poses, write_clip

from ntalker_ns.driving.controls import (
    BLINK_DURATION,
    BLINK_INTERVAL,
    SWAY,
    blink_shape,
    blinks,
    cameras_of_heads,
    controlled,
    head_poses,
    motion_about_mean,
    rest_frame,
    smoothed,
    sway,
    usual_openness,
    with_motion,
)
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError


def sequence_of(cameras: np.ndarray, is_train: np.ndarray | None = None) -> DrivingSequence:
    count = len(cameras)
    train = np.ones(count, bool) if is_train is None else is_train
    sequence = make_sequence(count, train.tolist())
    return sequence.with_track(camera_to_worlds=cameras[:, :3].astype(np.float32))


@pytest.fixture
def clip() -> DrivingSequence:
    return sequence_of(poses(60))


def test_a_head_pose_is_the_inverse_of_its_camera(clip: DrivingSequence):
    turned, places = head_poses(clip.track.camera_to_worlds)
    point = np.array([0.1, -0.5, 0.3])
    for camera, rotation, place in zip(clip.track.camera_to_worlds, turned, places, strict=True):
        np.testing.assert_allclose(camera[:, :3] @ (rotation @ point + place) + camera[:, 3], point, atol=1e-5)
    np.testing.assert_allclose(cameras_of_heads(turned, places), clip.track.camera_to_worlds, atol=1e-6)


def test_motion_of_a_head_that_nods_about_one_axis():
    angles = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    turned = Rotation.from_rotvec(angles[:, None] * np.array([1.0, 0, 0])).as_matrix()
    places = np.array([[0.0, 0.0, -3.0]]) + angles[:, None] * np.array([0.0, 0.5, 0.0])
    motion = motion_about_mean(cameras_of_heads(turned, places))
    expected = np.zeros((5, 6))
    expected[:, 0], expected[:, 4] = angles, 0.5 * angles
    np.testing.assert_allclose(motion, expected, atol=1e-6)
    assert rest_frame(sequence_of(cameras_of_heads(turned, places))) == 2


def test_motion_put_back_on_the_rest_pose_is_the_clip_again():
    angles = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    turned = Rotation.from_rotvec(angles[:, None] * np.array([0, 1.0, 0])).as_matrix()
    clip = sequence_of(cameras_of_heads(turned, np.tile([0.1, 0.2, -3.0], (5, 1))))
    moved = with_motion(clip, clip, motion_about_mean(clip.track.camera_to_worlds))
    np.testing.assert_allclose(moved.track.camera_to_worlds, clip.track.camera_to_worlds, atol=1e-6)
    assert (moved.track.replay == 2).all()


def test_still_shows_one_training_frame_and_keeps_the_speech(clip: DrivingSequence):
    clip = clip.with_track(is_train=np.arange(60) < 50)
    spoken = clip.with_features(np.random.default_rng(0).normal(size=(130, 16, 3)).astype(np.float32))
    held = controlled(spoken, clip, pose="still")
    rest = rest_frame(clip)
    assert rest < 50 and (held.track.replay == rest).all() and held.track.is_train.all()
    np.testing.assert_allclose(
        held.track.camera_to_worlds, np.tile(clip.track.camera_to_worlds[rest], (130, 1, 1)), atol=1e-6
    )
    for name in ("face_boxes", "brow_shapes"):
        np.testing.assert_array_equal(getattr(held.track, name), np.tile(getattr(clip.track, name)[rest], (130, 1)))
    for name in ("features", "times", "eye_openness", "lip_shapes"):
        np.testing.assert_array_equal(getattr(held.track, name), getattr(spoken.track, name))


def test_a_head_rests_in_a_frame_that_shows_it(clip: DrivingSequence):
    clip = replace(clip, clip_is_train=np.arange(60) != rest_frame(clip))
    assert clip.clip_is_train[rest_frame(clip)]


def test_sway_is_small_smooth_and_the_seeds_own(clip: DrivingSequence):
    one, same, other = (sway(clip, 4000, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    own = motion_about_mean(clip.track.camera_to_worlds)
    # tanh takes about a third off the standard deviation that the clip's covariance gives.
    ratio = one.std(axis=0) / own.std(axis=0)
    assert (ratio > 0.5 * SWAY).all() and (ratio < SWAY).all()
    assert np.corrcoef(one[:, 0], one[:, 4])[0, 1] == pytest.approx(np.corrcoef(own[:, 0], own[:, 4])[0, 1], abs=0.2)
    steps = np.diff(one, axis=0)
    assert (steps.std(axis=0) < 0.1 * one.std(axis=0)).all()


def test_a_longer_sequence_sways_alike_at_first(clip: DrivingSequence):
    np.testing.assert_allclose(sway(clip, 300, 3)[:100], sway(clip, 100, 3), atol=1e-12)


def test_swaying_cameras_are_rotations(clip: DrivingSequence):
    rotations = controlled(clip, clip, pose="sway", seed=3).track.camera_to_worlds[:, :, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (60, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), openness=st.floats(0.2, 1.0))
def test_blinks_come_every_few_seconds_and_last_a_moment(seed: int, openness: float):
    fps = 200.0
    eyes = blinks(int(60 * fps), fps, openness, seed)
    assert eyes.max() <= openness + 1e-6 and eyes.min() >= 0.0
    shut = np.flatnonzero(np.diff((eyes < openness - 1e-6).astype(int)) == 1)
    reopened = np.flatnonzero(np.diff((eyes < openness - 1e-6).astype(int)) == -1)
    gaps, lengths = np.diff(shut) / fps, (reopened - shut[: len(reopened)]) / fps
    assert len(shut) >= 9
    assert gaps.min() > BLINK_INTERVAL[0] - 0.02 and gaps.max() < BLINK_INTERVAL[1] + 0.02
    assert lengths.min() > BLINK_DURATION[0] - 0.03 and lengths.max() < BLINK_DURATION[1] + 0.01
    lowest = [eyes[a : b + 1].min() for a, b in zip(shut, reopened, strict=False)]
    assert max(lowest) < 0.05


def test_a_longer_sequence_begins_with_the_same_blinks():
    np.testing.assert_array_equal(blinks(100, 25.0, 0.9, 4), blinks(1000, 25.0, 0.9, 4)[:100])


def test_the_shape_of_a_blink():
    np.testing.assert_allclose(
        blink_shape(np.array([-1.0, 0.0, 0.175, 0.35, 0.675, 1.0, 2.0])), [0, 0, 0.5, 1, 0.5, 0, 0]
    )


def test_eyes_are_replayed_held_or_blink(clip: DrivingSequence):
    assert controlled(clip, clip) is clip
    assert (controlled(clip, clip, eyes="0.25").track.eye_openness == np.float32(0.25)).all()
    blinking = controlled(clip, clip, eyes="blink", seed=5).track.eye_openness
    np.testing.assert_array_equal(blinking, blinks(60, 25.0, usual_openness(clip), 5))
    assert blinking.dtype == np.float32


def test_smoothing_keeps_what_is_smooth_and_calms_what_is_not():
    angles = 0.002 * np.arange(80)
    line = np.column_stack([0.01 * np.arange(80), np.zeros(80), np.full(80, -3.0)])
    turned = Rotation.from_rotvec(angles[:, None] * np.array([0, 1.0, 0])).as_matrix()
    calm = sequence_of(cameras_of_heads(turned, line))
    inner = slice(12, 68)
    np.testing.assert_allclose(
        smoothed(calm, 3.0).track.camera_to_worlds[inner], calm.track.camera_to_worlds[inner], atol=1e-5
    )
    shaken = np.random.default_rng(0).normal(0, 0.02, 80)
    rough = Rotation.from_rotvec((angles + shaken)[:, None] * np.array([0, 1.0, 0])).as_matrix()
    result = smoothed(sequence_of(cameras_of_heads(rough, line)), 3.0)
    left = Rotation.from_matrix(head_poses(result.track.camera_to_worlds)[0]).as_rotvec()[inner, 1] - angles[inner]
    # A Gaussian of width s leaves white noise a variance of 1 / (2 s sqrt(pi)).
    assert left.std() == pytest.approx(0.02 / np.sqrt(6 * np.sqrt(np.pi)), rel=0.35)


def test_the_motion_of_another_data_set(clip: DrivingSequence, tmp_path: Path):
    folder = write_clip(tmp_path / "other", num_frames=24)
    from_file = controlled(clip, clip, pose=str(folder / "transforms.json"))
    from_folder = controlled(clip, clip, pose=str(folder))
    np.testing.assert_array_equal(from_file.track.camera_to_worlds, from_folder.track.camera_to_worlds)
    motion = motion_about_mean(poses(24)[:, :3])
    np.testing.assert_allclose(motion_about_mean(from_file.track.camera_to_worlds[:24]), motion, atol=2e-2)
    np.testing.assert_allclose(from_file.track.camera_to_worlds[24], from_file.track.camera_to_worlds[22], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eyes": "wide"}, "--eyes wide"),
        ({"eyes": "1.5"}, "--eyes 1.5"),
        ({"eyes": "nan"}, "--eyes nan"),
        ({"pose": "nod"}, "--pose nod"),
        ({"smooth": -1.0}, "--smooth -1"),
        ({"smooth": 1e9}, r"--smooth 1e\+09 .* 0 to 1000"),
        ({"seed": -1, "pose": "sway"}, "--seed -1"),
    ],
)
def test_what_cannot_be_understood_is_said(clip: DrivingSequence, options: dict, message: str):
    with pytest.raises(NTalkerError, match=message):
        controlled(clip, clip, **options)
