"""Nearest and mean training frames."""

import numpy as np
import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.baselines import mean_frame, nearest_frames

RNG = np.random.default_rng(0)


def test_nearest_is_the_least_distance_over_all_landmarks():
    train, wanted = RNG.normal(size=(12, 478, 2)), RNG.normal(size=(5, 478, 2))
    by_hand = [min(range(12), key=lambda i: sum(((train[i] - frame) ** 2).ravel())) for frame in wanted]
    np.testing.assert_array_equal(nearest_frames(train, wanted), by_hand)


def test_untracked_training_frames_are_never_chosen():
    train = np.stack([np.full((478, 2), np.nan), np.full((478, 2), 9.0), np.full((478, 2), 2.0)])
    train[2, 7, 1] = np.nan
    np.testing.assert_array_equal(nearest_frames(train, np.zeros((1, 478, 2))), [1])


def test_missing_landmarks_are_said():
    with pytest.raises(NTalkerError, match="Held-out frame 1"):
        nearest_frames(np.zeros((2, 478, 2)), np.stack([np.zeros((478, 2)), np.full((478, 2), np.nan)]))
    with pytest.raises(NTalkerError, match="No training frame"):
        nearest_frames(np.full((2, 478, 2), np.nan), np.zeros((1, 478, 2)))


def test_the_mean_frame_is_the_mean():
    images = RNG.random((7, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(mean_frame(iter(images)), images.astype(np.float64).mean(axis=0), rtol=1e-6)
    with pytest.raises(NTalkerError, match="no training frames"):
        mean_frame(iter([]))
