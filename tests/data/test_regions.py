"""PSNR by region against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.data.regions import region_errors, region_masks, region_psnr


def test_a_constant_error_has_the_psnr_of_its_square():
    truth = np.full((6, 8, 3), 0.5)
    errors = region_errors(truth + 0.1, truth, {"full": np.ones((6, 8), bool)})
    assert region_psnr([errors])["full"].mean == pytest.approx(20.0)
    assert region_psnr([errors])["full"].pooled == pytest.approx(20.0)


def test_only_pixels_of_the_region_count():
    truth = np.zeros((4, 4, 3))
    prediction = truth.copy()
    prediction[0, 0] = 1.0
    inside, outside = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    inside[0, :2] = True
    outside[0, 0] = False
    errors = region_errors(prediction, truth, {"inside": inside, "outside": outside})
    assert errors["inside"] == (1.0, 2)
    assert errors["outside"] == (0.0, 15)


def test_mean_and_pooled_differ_as_they_should():
    # Two frames of 10 px with mean squared errors 0.01 and 0.0001: 20 and 40 dB.
    psnr = region_psnr([{"head": (0.1, 10)}, {"head": (0.001, 10)}])["head"]
    assert psnr.mean == pytest.approx(30.0)
    assert psnr.pooled == pytest.approx(-10.0 * np.log10(0.00505))
    assert psnr.frames == 2


@given(st.lists(st.tuples(st.floats(1e-4, 1.0), st.just(7)), min_size=1, max_size=8))
def test_pooled_is_never_above_the_mean_for_regions_of_one_size(rows):
    psnr = region_psnr([{"lips": (error * count, count)} for error, count in rows])["lips"]
    assert psnr.pooled <= psnr.mean + 1e-9


def test_frames_without_the_region_do_not_count():
    psnr = region_psnr([{"lips": (0.0, 0)}, {"lips": (0.01, 1)}])
    assert psnr["lips"].frames == 1
    assert psnr["lips"].mean == pytest.approx(20.0)
    assert region_psnr([{"lips": (0.0, 0)}]) == {}


def test_predictions_are_clipped_to_what_a_screen_shows():
    truth = np.ones((2, 2, 3))
    assert region_errors(truth + 5.0, truth, {"full": np.ones((2, 2), bool)})["full"] == (0.0, 4)


def test_regions_follow_the_labels():
    labels = np.array([[0, 1, 2, 3, 4]], np.uint8)
    face = np.array([[False, False, True, True, True]])
    masks = region_masks(labels, face)
    np.testing.assert_array_equal(masks["head"], [[False, False, True, True, True]])
    np.testing.assert_array_equal(masks["lips"], [[False, False, False, True, True]])
    assert masks["full"].all()
    assert masks["face"] is face
