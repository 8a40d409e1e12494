"""Random pixels lie where they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.data.pixel_sampling import EYE_FRACTION, anywhere, frame_chances, in_box, in_spans, patch


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(pixels, size) -> np.ndarray:
    return np.bincount(pixels[1] * size[0] + pixels[0], minlength=size[0] * size[1]).reshape(size[1], size[0])


def assert_uniform(found: np.ndarray, allowed: np.ndarray) -> None:
    """All draws in `allowed`, and each of its cells within 5 standard deviations of its share."""
    assert (found[~allowed] == 0).all()
    expected = found.sum() / allowed.sum()
    assert np.abs(found[allowed] - expected).max() < 5 * np.sqrt(expected)


def test_anywhere_is_uniform():
    assert_uniform(counts(anywhere(rng(), 100000, (7, 5)), (7, 5)), np.ones((5, 7), bool))


def test_spans_are_drawn_from_uniformly():
    spans = np.array([[0, 0], [2, 6], [1, 3], [0, 0], [0, 7]])
    allowed = np.zeros((5, 7), bool)
    for row, (first, end) in enumerate(spans):
        allowed[row, first:end] = True
    assert_uniform(counts(in_spans(rng(), 100000, spans, (7, 5)), (7, 5)), allowed)


def test_boxes_are_drawn_from_uniformly_and_cut_to_the_picture():
    allowed = np.zeros((5, 7), bool)
    allowed[0:3, 4:7] = True
    assert_uniform(counts(in_box(rng(), 100000, np.array([4.0, -2.5, 11.0, 2.2]), (7, 5)), (7, 5)), allowed)


def test_where_there_is_nothing_to_draw_from_it_is_anywhere():
    everywhere = np.ones((5, 7), bool)
    assert_uniform(counts(in_spans(rng(), 100000, np.zeros((5, 2), int), (7, 5)), (7, 5)), everywhere)
    assert_uniform(counts(in_box(rng(), 100000, np.array([9.0, 9, 12, 12]), (7, 5)), (7, 5)), everywhere)


@given(
    st.integers(1, 16),
    st.integers(0, 1000),
    st.lists(st.floats(-20, 40), min_size=4, max_size=4),
    st.booleans(),
)
def test_patches_are_squares_in_the_picture(patch_size, seed, corners, has_box):
    size = (24, 16)
    box = np.sort(np.array(corners).reshape(2, 2), axis=0).reshape(4) if has_box else None
    x, y = patch(rng(seed), patch_size, box, size)
    assert x.min() >= 0 and x.max() < 24 and y.min() >= 0 and y.max() < 16
    grid_y, grid_x = np.mgrid[y[0] : y[0] + patch_size, x[0] : x[0] + patch_size]
    np.testing.assert_array_equal(x, grid_x.ravel())
    np.testing.assert_array_equal(y, grid_y.ravel())


def test_patch_centres_lie_in_the_box():
    generator, box = rng(), np.array([10.0, 20.0, 14.0, 21.0])
    centres = np.array(
        [[x.mean() + 0.5, y.mean() + 0.5] for x, y in (patch(generator, 8, box, (64, 64)) for _ in range(50))]
    )
    assert (centres >= box[:2] - 0.5).all() and (centres <= box[2:] + 0.5).all()
    assert len(np.unique(centres[:, 0])) > 3


def test_a_rare_blink_is_drawn_more_often() -> None:
    openness = np.full(100, 0.9)
    openness[40:42] = 0.05
    chances = frame_chances(openness)
    assert chances.sum() == pytest.approx(1.0)
    # Two degrees of openness occur: each gets half of the share that is drawn evenly over them.
    assert chances[40:42].sum() == pytest.approx((1 - EYE_FRACTION) * 0.02 + EYE_FRACTION / 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_every_frame_is_drawn(openness: list[float]) -> None:
    chances = frame_chances(np.array(openness))
    assert chances.sum() == pytest.approx(1.0)
    assert chances.min() >= (1 - EYE_FRACTION) / len(openness)
