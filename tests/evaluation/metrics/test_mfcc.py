"""SyncNet's cepstra against what python_speech_features 0.6 gives."""

import numpy as np
import pytest

from ntalker_ns.evaluation.metrics.mfcc import mel_filters, mfcc

OF_THE_PACKAGE = """
19.79988251 11.43766928 -18.85720557 -4.65118783 -3.65216757 -49.63367577 -56.35658067 -2.41860536 17.13732445
-9.60497491 1.48997257 35.44966473 21.20841548
19.79605355 18.90341499 -14.91216779 4.91516939 8.30326422 -43.01975191 -53.66005098 1.5598684 22.22530965
-5.66370352 4.01500775 36.74321206 21.36650115
19.58379936 23.91626627 -19.03661785 4.41682205 9.71772197 -41.01382716 -51.77961924 1.54160845 20.95811512
-5.98430068 3.3511048 33.9673114 17.97675175
"""
"""python_speech_features.mfcc(two_tones(), 16000) of version 0.6."""


def two_tones() -> np.ndarray:
    t = np.arange(640) / 16000
    return np.round(8000 * np.sin(2 * np.pi * 440 * t) + 2000 * np.sin(2 * np.pi * 1900 * t))


def test_numbers_are_those_of_the_package():
    expected = np.array(OF_THE_PACKAGE.split(), float).reshape(3, 13)
    np.testing.assert_allclose(mfcc(two_tones()), expected, atol=1e-7)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_a_step_for_every_started_ten_milliseconds(samples: int, steps: int):
    assert mfcc(np.ones(samples)).shape == (steps, 13)


def test_silence_is_finite():
    assert np.isfinite(mfcc(np.zeros(1600))).all()


def test_filters_are_triangles_that_fill_the_band():
    filters = mel_filters()
    np.testing.assert_allclose(filters.max(axis=1), 1.0)
    inside = slice(int(np.argmax(filters[0])), int(np.argmax(filters[-1])))
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1.0)
