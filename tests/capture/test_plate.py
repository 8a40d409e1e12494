"""The background plate."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.capture import plate as plates
from ntalker_ns.capture.plate import background_mask, fill_unknown, make_plate


def scene(noise: int = 0, drift: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """A bright square that wanders over a gradient, and where it is not."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    room = np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8)
    images, masks = [], []
    for i in range(20):
        image = np.roll(room, drift * i, axis=1).astype(int) + rng.integers(-noise, noise + 1, room.shape)
        mask = np.ones((64, 64), bool)
        mask[16:64, 10 + i : 40 + i] = False
        image[~mask] = 255
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks, room


def test_what_was_ever_seen_is_true_and_the_rest_is_smooth():
    images, masks, room = scene(noise=2)
    plate = make_plate(images, masks)
    assert np.abs(plate.image.astype(int) - room)[plate.observed].max() <= 2
    assert (plate.image[~plate.observed] < 250).all()
    assert 0.5 < plate.observed_fraction < 1.0
    assert not plate.moves


def test_a_moving_background_is_noticed():
    assert make_plate(*scene(drift=3)[:2]).moves


def test_an_even_count_and_a_single_frame_are_exact():
    images, masks, room = scene()
    for count in (2, 4):
        plate = make_plate(images[:count], masks[:count])
        assert np.array_equal(plate.image[plate.observed], room[plate.observed])


def test_a_plate_takes_little_memory_and_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (40, 150, 150, 3), dtype=np.uint8))
    masks = list(rng.random((40, 150, 150)) < 0.3 * np.linspace(0, 1, 150))
    made = []
    for rows in (8, 1000):
        monkeypatch.setattr(plates, "BAND", rows)
        tracemalloc.start()
        made.append((make_plate(images, masks), tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    (plate, peak), (whole, whole_peak) = made
    assert np.array_equal(plate.image, whole.image) and np.array_equal(plate.observed, whole.observed)
    assert plate.deviation == whole.deviation
    assert peak < sum(image.nbytes for image in images) < whole_peak


def test_nothing_observed_gives_a_finite_picture():
    images, masks, _ = scene()
    plate = make_plate(images, [np.zeros_like(m) for m in masks])
    assert plate.observed_fraction == 0 and plate.deviation == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 40))
def test_filling_keeps_the_known_and_stays_within_their_range(seed: int, height: int, width: int):
    rng = np.random.default_rng(seed)
    image = rng.uniform(10, 20, (height, width, 3)).astype(np.float32)
    known = rng.random((height, width)) < 0.3
    known[0, 0] = True
    filled = fill_unknown(np.where(known[..., None], image, np.nan), known)
    assert np.allclose(filled[known], image[known], atol=1e-3)
    assert filled.min() >= image[known].min() - 1e-2
    assert filled.max() <= image[known].max() + 1e-2


def test_background_keeps_away_from_the_matte():
    matte = np.zeros((256, 256), np.uint8)
    matte[100:150, 100:150] = 255
    mask = background_mask(matte, 512)
    assert not mask[196:304, 196:304].any()
    assert mask[:180].all()
