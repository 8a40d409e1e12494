"""Mouth openings on closed forms and on the real clip."""

from itertools import islice

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import MEDIA

from ntalker_ns.capture.landmarks import face_landmarks
from ntalker_ns.evaluation.metrics.lips import (
    amplitude_ratio,
    best_lag,
    lip_distances,
    lip_sync,
    mouth_openings,
    opening_correlation,
    shifted_correlations,
)
from ntalker_ns.face import mesh_indices

CLIP = MEDIA / "wild-30fps.mp4"


def course(count: int = 300, seed: int = 0) -> np.ndarray:
    """A smooth course of openings around 0.05."""
    noise = np.random.default_rng(seed).normal(size=count + 4)
    return 0.05 + 0.02 * np.convolve(noise, np.ones(5) / 5, "valid")


@given(st.integers(0, 1000), st.floats(0.1, 10.0), st.floats(-1.0, 1.0))
def test_correlation_is_pearsons_and_ignores_scale(seed: int, gain: float, offset: float):
    first, second = course(60, seed), course(60, seed + 1)
    expected = np.corrcoef(first, second)[0, 1]
    assert opening_correlation(gain * first + offset, second) == pytest.approx(expected, abs=1e-7)
    assert opening_correlation(first, -gain * first) == pytest.approx(-1.0)
    assert amplitude_ratio(gain * first + offset, first) == pytest.approx(gain)


def test_unknown_frames_are_left_out():
    first, second = course(50), course(50, 1)
    first[[3, 7]] = np.nan
    second[[7, 20]] = np.nan
    known = np.setdiff1d(np.arange(50), [3, 7, 20])
    expected = np.corrcoef(first[known], second[known])[0, 1]
    assert opening_correlation(first, second) == pytest.approx(expected)
    assert lip_sync(first, second).frames == 47
    assert opening_correlation(np.full(50, np.nan), second) == 0.0


@given(st.integers(-12, 12))
def test_a_delay_is_found(delay: int):
    whole = course(240)
    rendered, true = whole[20 - delay : 220 - delay], whole[20:220]
    assert best_lag(rendered, true) == delay


@pytest.mark.parametrize("frames", [3, 6, 15])
def test_clips_shorter_than_the_search_have_a_lag_and_chances(frames: int):
    true = course(frames)
    sync = lip_sync(true, true)
    assert sync.lag == 0
    expected = [np.corrcoef(np.roll(true, step), true)[0, 1] for step in range(1, frames)]
    np.testing.assert_allclose(sync.shifted, expected)


def test_frozen_lips_do_not_pass():
    true = course()
    frozen = lip_sync(np.full(300, 0.05), true)
    assert frozen.correlation == 0.0
    assert frozen.amplitude_ratio == pytest.approx(0.0, abs=1e-9)
    assert not frozen.beats_shifts


def test_lips_that_follow_beat_every_shift_and_others_do_not():
    true = course()
    follows = lip_sync(true + 0.01 * course(seed=5), true)
    assert follows.beats_shifts and follows.lag == 0 and len(follows.shifted) == 20
    assert not lip_sync(np.roll(true, 100), true).beats_shifts


def test_shifts_are_circular_and_never_zero():
    true = course(84)
    expected = [np.corrcoef(np.roll(true, step), true)[0, 1] for step in range(4, 84, 4)]
    np.testing.assert_allclose(shifted_correlations(true, true, 20), expected)


@given(st.floats(0.0, 0.3), st.floats(-180.0, 180.0), st.floats(0.2, 5.0))
def test_opening_is_the_gap_over_the_face_whatever_its_roll_and_size(opening: float, roll: float, size: float):
    landmarks = np.zeros((1, 478, 2))
    landmarks[0, mesh_indices.CHIN] = (0.0, 100.0)
    landmarks[0, mesh_indices.FOREHEAD_TOP] = (0.0, -100.0)
    landmarks[0, mesh_indices.UPPER_INNER_LIP] = (1.0, 50.0)
    landmarks[0, mesh_indices.LOWER_INNER_LIP] = (-1.0, 50.0 + 200.0 * opening)
    angle = np.deg2rad(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = size * landmarks @ turn.T + [30.0, 40.0]
    assert mouth_openings(turned)[0] == pytest.approx(opening, abs=1e-9)


def test_lip_distance_is_the_shift_of_the_lips():
    landmarks = np.random.default_rng(0).uniform(0, 512, (3, 478, 2))
    moved = landmarks.copy()
    moved[:, np.concatenate([mesh_indices.OUTER_LIPS, mesh_indices.INNER_LIPS])] += [3.0, 4.0]
    moved[2] = np.nan
    np.testing.assert_allclose(lip_distances(moved, landmarks), [5.0, 5.0, np.nan])


def test_pictures_without_a_face_are_unknown():
    landmarks = face_landmarks([np.zeros((64, 48, 3), np.uint8)] * 2)
    assert landmarks.shape == (2, 478, 2)
    assert np.isnan(mouth_openings(landmarks)).all()
    assert face_landmarks([]).shape == (0, 478, 2)


@pytest.mark.slow
@pytest.mark.skipif(not CLIP.is_file(), reason="the real clip (../shared/media/wild-30fps.mp4) is not here")
def test_small_pictures_give_the_openings_of_large_ones():
    from ntalker_ns.media.video_reader import read_frames

    frames = list(islice(read_frames(CLIP), 100))
    small = [cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA) for frame in frames]
    large_points, small_points = face_landmarks(frames), face_landmarks(small)
    large, little = mouth_openings(large_points), mouth_openings(small_points)
    assert np.isfinite(large).all() and np.isfinite(little).all()
    assert large.std() > 0.02 and large.max() < 0.2
    assert opening_correlation(little, large) > 0.95
    assert amplitude_ratio(little, large) == pytest.approx(1.0, abs=0.2)
    assert np.nanmean(lip_distances(small_points, large_points)) < 3.0
