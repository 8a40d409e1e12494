"""Poses and eyes by look and time; looks that strangers ask for."""

import numpy as np
import pytest
from support.live_stage import make_stage, turning_clip

from ntalker_ns.driving.controls import head_poses
from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.stage import LiveOptions, mirrored

LOOK = LiveOptions()


def test_as_filmed_shows_the_trained_frames_back_and_forth():
    stage, clip = make_stage(), turning_clip()
    look = LiveOptions(pose="clip", eyes="clip")
    ticks = range(100)
    replay = [int(stage.sequence.track.replay[stage.frame(look, tick)]) for tick in ticks]
    assert replay == [min(t % 70, 70 - t % 70) for t in ticks]
    eyes = [stage.openness(look, tick) for tick in ticks]
    np.testing.assert_array_equal(eyes, clip.track.eye_openness[replay])


def test_a_still_head_does_not_move_and_a_swaying_one_never_jumps():
    stage = make_stage()
    assert len({stage.frame(LiveOptions(pose="still"), tick) for tick in range(1000)}) == 1
    frames = [stage.frame(LOOK, tick) for tick in range(4000)]
    poses = stage.sequence.track.camera_to_worlds[frames]
    steps = np.abs(np.diff(poses, axis=0)).max(axis=(1, 2))
    assert len(np.unique(frames)) == 1500
    own = np.abs(np.diff(turning_clip().track.camera_to_worlds, axis=0)).max()
    assert 0.0 < steps.max() < own
    turned, _ = head_poses(poses)
    np.testing.assert_allclose(turned @ np.swapaxes(turned, 1, 2), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-5)


def test_eyes_blink_and_can_stay_open():
    stage = make_stage()
    blinking = np.array([stage.openness(LOOK, tick) for tick in range(3000)])
    assert blinking.min() < 0.1 and blinking.max() == pytest.approx(stage.openness(LiveOptions(eyes="open"), 7))
    assert np.mean(blinking < 0.5 * blinking.max()) < 0.15


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_replay_back_and_forth_moves_by_one_frame_at_most(length: int):
    shown = [mirrored(tick, length) for tick in range(30)]
    assert np.abs(np.diff(shown)).max() == min(1, length - 1)
    assert set(shown) == set(range(length))


@pytest.mark.parametrize(
    "wanted",
    [
        {"background": "/etc/passwd"},
        {"background": "#12345"},
        {"background": "#12345g"},
        {"background": ["plate"]},
        {"pose": "data/bob"},
        {"eyes": 0.5},
        {"colour": "#000000"},
        {"refinement": 0.5},
        {"wipe": 1.5},
        {"wipe": True},
        {"wipe": None},
        ["plate"],
        None,
    ],
)
def test_looks_that_are_not_offered_are_refused(wanted: object):
    with pytest.raises(NTalkerError):
        LOOK.changed(wanted, edited=False)


@pytest.mark.parametrize("weight", [-0.1, 1.5, "1", True, float("nan")])
def test_refinement_is_a_number_from_0_to_1(weight: object):
    assert LOOK.changed({"refinement": 0.25}, edited=True).refinement == 0.25
    with pytest.raises(NTalkerError):
        LOOK.changed({"refinement": weight}, edited=True)
