"""Masks, against scipy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ntalker_ns.media.masks import connected_to, disc

MASKS = arrays(bool, (9, 12))


@given(MASKS, MASKS)
def test_parts_that_touch_a_seed(mask: np.ndarray, seed: np.ndarray) -> None:
    expected = ndimage.binary_propagation(seed & mask, mask=mask)
    assert np.array_equal(connected_to(mask, seed), expected)


@given(st.integers(0, 12))
def test_a_disc_is_symmetric_and_as_wide_as_it_says(radius: int) -> None:
    found = disc(radius)
    assert found.shape == (2 * radius + 1, 2 * radius + 1)
    assert np.array_equal(found, found[::-1]) and np.array_equal(found, found[:, ::-1])
    assert found[radius].all() and found[:, radius].all()
