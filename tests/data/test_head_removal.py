"""What lies under the head: nothing of the head."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.data.head_removal import BACKGROUND, HEAD, TORSO, dilate, dilation_of, remove_head, taken_out

SKY, SHIRT, SKIN, WALL = (40, 80, 160), (30, 120, 30), (200, 150, 120), (42, 82, 162)


def scene(size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame, its labels and a plate of slightly other colour: head over neck over shirt."""
    y, x = np.mgrid[:size, :size] / size
    image = np.full((size, size, 3), SKY, np.uint8)
    labels = np.full((size, size), BACKGROUND, np.uint8)
    for mask, colour, label in (
        ((x - 0.5) ** 2 / 0.16 + (y - 1.1) ** 2 / 0.23 < 1, SHIRT, TORSO),
        ((np.abs(x - 0.5) < 0.1) & (y > 0.55) & (y < 0.8), SKIN, TORSO),
        ((x - 0.5) ** 2 / 0.04 + (y - 0.4) ** 2 / 0.075 < 1, (255, 0, 0), HEAD),
    ):
        image[mask], labels[mask] = colour, label
    return image, labels, np.full((size, size, 3), WALL, np.uint8)


def test_the_band_is_wide_over_background_and_narrow_over_the_neck():
    _, labels, _ = scene()
    head, out = labels >= HEAD, taken_out(labels, 10)
    assert out[head].all()
    np.testing.assert_array_equal(out[labels == BACKGROUND], dilate(head, 10)[labels == BACKGROUND])
    np.testing.assert_array_equal(out[labels == TORSO], dilate(head, 4)[labels == TORSO])


def test_outside_the_dilated_head_nothing_changes():
    image, labels, plate = scene()
    inside = taken_out(labels, 3)
    np.testing.assert_array_equal(remove_head(image, labels, plate, 3)[~inside], image[~inside])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([37, 64, 101]))
def test_pixels_inside_the_dilated_head_are_never_looked_at(seed, dilation, size):
    rng = np.random.default_rng(seed)
    image, labels, plate = scene(size)
    labels[labels == HEAD] = rng.integers(HEAD, 5, int((labels == HEAD).sum()))
    inside = taken_out(labels, dilation)
    other = image.copy()
    other[inside] = rng.integers(0, 256, (int(inside.sum()), 3))
    np.testing.assert_array_equal(
        remove_head(image, labels, plate, dilation), remove_head(other, labels, plate, dilation)
    )


def test_plate_is_above_and_the_neck_goes_on_below():
    image, labels, plate = scene()
    result = remove_head(image, labels, plate, 3).astype(int)
    assert np.abs(result[20, 64] - WALL).max() <= 1
    under_chin = result[86, 64]
    assert labels[86, 64] == HEAD
    # The blur mixes in a little of the shirt beside the neck.
    assert np.abs(under_chin - SKIN).max() < 30


def test_inside_lie_only_colours_of_plate_and_torso():
    image, labels, plate = scene()
    inside = taken_out(labels, 3)
    colours = remove_head(image, labels, plate, 3)[inside].astype(int)
    low, high = np.min([WALL, SHIRT, SKIN], axis=0) - 1, np.max([WALL, SHIRT, SKIN], axis=0) + 1
    assert ((colours >= low) & (colours <= high)).all()


def test_a_head_without_torso_leaves_the_plate():
    image, labels, plate = scene()
    labels[labels == TORSO] = BACKGROUND
    inside = taken_out(labels, 3)
    np.testing.assert_array_equal(remove_head(image, labels, plate, 3)[inside], plate[inside])


def test_a_head_that_leaves_no_background_is_torso():
    image, labels, plate = scene()
    labels[labels == BACKGROUND] = HEAD
    result = remove_head(image, labels, plate, 3)
    assert not (result == plate).all(axis=2)[taken_out(labels, 3)].any()


def test_a_frame_without_a_head_stays_and_is_not_shared():
    image, labels, plate = scene()
    labels[labels == HEAD] = BACKGROUND
    result = remove_head(image, labels, plate, 3)
    np.testing.assert_array_equal(result, image)
    assert result is not image


def test_dilation_reaches_as_far_as_it_says():
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    y, x = np.mgrid[:41, :41] - 20
    distance = np.hypot(x, y)
    for radius in (1, 4, 9):
        grown = dilate(mask, radius)
        # The distance transform is exact to about 2 %.
        assert grown[distance <= 0.96 * radius].all()
        assert not grown[distance > 1.04 * radius].any()
    assert not dilate(np.zeros((5, 5), bool), 3).any()


@pytest.mark.parametrize(("width", "expected"), [(512, 10), (128, 3), (16, 1)])
def test_dilation_is_two_percent_of_the_width(width, expected):
    assert dilation_of(width) == expected


def test_a_torso_picture_says_what_is_behind_the_head():
    image, labels, plate = scene()
    torso = np.zeros((128, 128, 4), np.uint8)
    torso[60:] = (*SKIN, 255)
    torso[55:60] = (*SKIN, 51)  # a fifth opaque
    result = remove_head(image, labels, plate, 3, torso)
    inside = taken_out(labels, 3)
    np.testing.assert_array_equal(result[~inside], image[~inside])
    assert inside[[20, 57, 80], 64].all()
    assert result[20, 64].tolist() == list(WALL) and result[80, 64].tolist() == list(SKIN)
    np.testing.assert_allclose(result[57, 64], 0.2 * np.array(SKIN) + 0.8 * np.array(WALL), atol=0.51)
