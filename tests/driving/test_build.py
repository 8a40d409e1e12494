"""From a clip to its driving folder: sizes, boxes and pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic_clip import write_clip

from ntalker_ns.data.head_removal import HEAD, dilate, dilation_of, remove_head
from ntalker_ns.data.images import fitted_size, scaled_boxes, shrink_to
from ntalker_ns.data.readers import read_clip
from ntalker_ns.driving.build import ClipPictures, build_driving, write_driving
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError

FRAMES, SIZE = 6, 96


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return read_clip(write_clip(tmp_path_factory.mktemp("data") / "anna", FRAMES, SIZE))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 3000))
def test_sizes_fit_and_are_never_enlarged(width, height, longest):
    new_width, new_height = fitted_size((width, height), longest)
    assert max(new_width, new_height) == min(longest, max(width, height))
    assert 1 <= new_width <= width and 1 <= new_height <= height
    assert abs(new_width * height - new_height * width) <= max(width, height)


def test_no_size_keeps_the_size():
    assert fitted_size((640, 360), None) == (640, 360)


def test_boxes_scale_with_the_picture():
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    np.testing.assert_array_equal(scaled_boxes(boxes, (0.5, 0.25)), [[5, 5, 15, 10]])


def test_shrinking_is_an_area_mean():
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    expected = picture.reshape(8, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrink_to(picture, 16), expected, atol=0.51)


def test_pictures_in_memory_are_made_of_the_clip(clip):
    pictures = ClipPictures(clip)
    expected = remove_head(clip.image(3), clip.labels(3), clip.plate(), dilation_of(SIZE))
    np.testing.assert_array_equal(pictures.headless_frame(3), expected)
    np.testing.assert_array_equal(pictures.plate(), clip.plate())
    assert pictures.thumbnail(3).shape == (64, 64, 3)


def test_the_folder_holds_every_frame_without_its_head(clip, tmp_path):
    is_train = np.arange(FRAMES) < 5
    sequence = build_driving(clip, is_train, None)
    written = write_driving(clip, sequence, tmp_path / "driving")
    names = sorted(str(path.relative_to(tmp_path / "driving")) for path in (tmp_path / "driving").rglob("*.*"))
    frames = [f"{i:05d}.jpg" for i in range(FRAMES)]
    pictures = [f"{kind}/{name}" for kind in ("thumbnails", "headless_frames") for name in frames]
    assert names == sorted(["plate.png", "sequence.json", "sequence.npz", *pictures])
    loaded = DrivingSequence.load(tmp_path / "driving")
    for i in range(FRAMES):
        np.testing.assert_array_equal(loaded.headless_frame(i), written.headless_frame(i))
        inside = dilate(clip.labels(i) >= HEAD, dilation_of(SIZE))
        difference = np.abs(loaded.headless_frame(i).astype(int) - sequence.headless_frame(i))
        assert difference.mean() < 1.5
        assert np.abs(loaded.headless_frame(i).astype(int) - clip.image(i))[inside].mean() > 20
        small = cv2.resize(clip.image(i), (64, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(loaded.thumbnail(i).astype(int) - small).mean() < 3


def test_keypoints_come_from_training_frames(clip):
    landmarks = clip.landmarks.copy()
    landmarks[4:] += 1000
    sequence = build_driving(replace(clip, landmarks=landmarks), np.arange(FRAMES) < 4, None)
    exact = build_driving(clip, np.arange(FRAMES) < 4, None)
    np.testing.assert_array_equal(sequence.rig.keypoints["nose"], exact.rig.keypoints["nose"])


def test_eye_openness_stays_between_zero_and_one(clip):
    eyes = np.linspace(-0.5, 1.5, FRAMES).astype(np.float32)
    sequence = build_driving(replace(clip, eye_openness=eyes), np.ones(FRAMES, bool), None)
    np.testing.assert_array_equal(sequence.track.eye_openness, np.clip(eyes, 0, 1))


def test_a_frame_that_cannot_be_read_leaves_no_folder(clip, tmp_path):
    broken = replace(clip, image_paths=[*clip.image_paths[:-1], tmp_path / "none.jpg"])
    sequence = build_driving(clip, np.ones(FRAMES, bool), None)
    with pytest.raises(NTalkerError, match=r"none\.jpg is missing"):
        write_driving(broken, sequence, tmp_path / "run" / "driving")
    assert list((tmp_path / "run").iterdir()) == []
