"""Frames mapped from a temporary file: what is put in comes out, in whole."""

import tempfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.frames import random_frames

from ntalker_ns.data import frame_cache
from ntalker_ns.data.frame_cache import Frame, build_store, row_spans
from ntalker_ns.data.head_removal import HEAD, dilate
from ntalker_ns.data.images import polygon_mask, shrink_labels
from ntalker_ns.errors import NTalkerError


@pytest.mark.parametrize("resident_limit", [1 << 30, 0])
def test_frames_come_out_as_they_went_in(monkeypatch, resident_limit):
    monkeypatch.setattr(frame_cache, "RESIDENT_LIMIT", resident_limit)
    frames = random_frames(5, 37, 29)
    store = build_store(frames.__getitem__, 5, (37, 29))
    for _ in range(2):
        for i, frame in enumerate(frames):
            for name in ("image", "headless_frame", "labels", "face_mask"):
                np.testing.assert_array_equal(getattr(store.frame(i), name), getattr(frame, name))
    assert len(store) == 5


def test_head_spans_hold_the_dilated_head():
    frame = random_frames(1, 40, 40)[0]
    labels = np.zeros((40, 40), np.uint8)
    cv2.circle(labels, (20, 15), 8, (2,), -1)
    frame = Frame(frame.image, frame.headless_frame, labels, frame.face_mask)
    spans = build_store(lambda index: frame, 1, (40, 40)).head_spans[0]
    mask = dilate(labels >= HEAD, 1)
    for row in range(40):
        assert spans[row].tolist() == (
            [0, 0] if not mask[row].any() else [mask[row].argmax(), 40 - mask[row, ::-1].argmax()]
        )


@given(arrays(bool, (7, 11), elements=st.booleans()))
def test_row_spans_are_the_tightest(mask):
    for row, (first, end) in zip(mask, row_spans(mask), strict=True):
        chosen = np.flatnonzero(row)
        assert (first, end) == ((chosen[0], chosen[-1] + 1) if len(chosen) else (0, 0))


def test_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    frames = random_frames(2, 16, 16)
    store = build_store(frames.__getitem__, 2, (16, 16))
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(store.frame(1).image, frames[1].image)


def test_no_room_is_said_before_anything_is_written(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache.os, "posix_fallocate", full)
    with pytest.raises(NTalkerError, match=r"no room .* TMPDIR"):
        build_store(random_frames(1, 8, 8).__getitem__, 1, (8, 8))


def test_an_unreadable_frame_is_told():
    def read(index):
        raise NTalkerError("frame 3 is missing")

    with pytest.raises(NTalkerError, match="frame 3 is missing"):
        build_store(read, 2, (8, 8))


def test_labels_shrink_by_majority():
    labels = np.zeros((8, 8), np.uint8)
    labels[0:2, 0:2] = [[3, 3], [0, 3]]
    labels[2:4, 4:8] = 4
    small = shrink_labels(labels, (4, 4))
    expected = np.zeros((4, 4), np.uint8)
    expected[0, 0], expected[1, 2:] = 3, 4
    np.testing.assert_array_equal(small, expected)
    np.testing.assert_array_equal(shrink_labels(labels, (8, 8)), labels)


def test_polygons_fill_the_pixels_whose_centres_they_hold():
    mask = polygon_mask(np.array([[2.0, 3.0], [9.0, 3.0], [9.0, 8.0], [2.0, 8.0]]), (12, 10))
    expected = np.zeros((10, 12), bool)
    expected[3:8, 2:9] = True
    # Pixels that only touch the outline may count.
    assert mask[expected].all()
    grown = np.zeros_like(expected)
    grown[2:9, 1:10] = True
    assert not mask[~grown].any()
