"""Items of the dataset: from the data set, from the cache, and from a run alone."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from support.synthetic_clip import write_clip

from ntalker_ns.data.head_removal import HEAD, dilate, dilation_of
from ntalker_ns.data.readers import read_clip
from ntalker_ns.driving.build import write_driving
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import FACE_OVAL
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip
from ntalker_ns.talker_dataset import TalkerDataset, face_outline


@pytest.fixture
def folder(tmp_path):
    return write_clip(tmp_path / "anna", 11, size=64)


def dataset(split: str = "train", **options) -> TalkerDataset:
    return TalkerDataset(TalkerDataParserConfig(**options).setup().get_dataparser_outputs(split))


def test_items_have_what_the_model_needs(folder):
    item = dataset("val", data=folder)[0]
    clip = read_clip(folder)
    assert item["image_idx"] == 0
    np.testing.assert_allclose(item["image"].numpy(), clip.image(10) / np.float32(255), atol=1e-6)
    np.testing.assert_array_equal(item["labels"].numpy(), clip.labels(10))
    assert item["labels"].dtype == torch.uint8 and item["face_mask"].dtype == torch.bool
    inside = dilate(clip.labels(10) >= HEAD, dilation_of(64))
    same = (item["headless_frame"] - item["image"]).abs().amax(-1).numpy()
    assert same[~inside].max() == 0
    assert np.abs(same[inside]).mean() > 0.05


def test_the_cache_gives_the_same_items(folder):
    frames = dataset(data=folder, image_size=40)
    read = [frames[i] for i in range(len(frames))]
    frames.store()
    for before, after in zip(read, (frames[i] for i in range(len(frames))), strict=True):
        assert before.keys() == after.keys()
        for key in ("image", "labels", "headless_frame", "face_mask"):
            assert torch.equal(before[key], after[key])


def test_small_images_are_area_means(folder):
    item = dataset(data=folder, image_size=16)[3]
    full = read_clip(folder).image(3).astype(np.float64)
    means = full.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(item["image"].numpy(), means, atol=0.6 / 255)


def test_another_size_is_what_training_at_it_would_see(folder):
    small = dataset(data=folder, image_size=16)
    small.store()
    for other, size in ((small.at_size(40), 40), (small.at_size(500), 64)):
        expected = dataset(data=folder, image_size=size)
        assert other.size == expected.size == (size, size)
        assert torch.equal(other.cameras.fx, expected.cameras.fx)
        for key in ("image", "labels", "headless_frame", "face_mask"):
            assert torch.equal(other[3][key], expected[3][key])
        np.testing.assert_array_equal(other.get_numpy_image(3), expected.get_numpy_image(3))
    assert small.size == (16, 16)


def test_face_mask_is_the_landmarks_outline(folder):
    mask = dataset(data=folder)[2]["face_mask"].numpy()
    outline = np.load(folder / "landmarks.npy")[2][FACE_OVAL]
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    signed = np.array([cv2.pointPolygonTest(outline, (px, py), True) for px, py in zip(x.flat, y.flat, strict=True)])
    signed = signed.reshape(64, 64)
    assert mask[signed > 1].all() and not mask[signed < -1].any()


def test_without_landmarks_the_face_is_the_heads_part_of_the_box(folder):
    landmarks = np.load(folder / "landmarks.npy")
    landmarks[2] = np.nan
    np.save(folder / "landmarks.npy", landmarks)
    item, clip = dataset(data=folder)[2], read_clip(folder)
    x0, y0, x1, y1 = np.round(clip.face_boxes[2]).astype(int)
    expected = np.zeros((64, 64), bool)
    expected[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(item["face_mask"].numpy(), expected & (clip.labels(2) >= HEAD))


def test_68_landmarks_outline_a_face_too():
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    outline = face_outline(points)
    assert len(outline) == 27 and outline[0, 0] == 0 and outline[17, 0] == 52


@pytest.fixture
def orphan(folder, tmp_path):
    """A run whose data set is gone."""
    write_driving(*read_training_clip(TalkerDataParserConfig(data=folder)), tmp_path / "driving")
    clip = read_clip(folder)
    images = [clip.image(i) for i in range(11)]
    shutil.rmtree(folder)
    return dataset(data=folder, driving=tmp_path / "driving", image_size=32), images


def test_without_the_data_set_images_are_thumbnails(orphan):
    frames, images = orphan
    item = frames[4]
    assert item["image"].shape == item["headless_frame"].shape == (32, 32, 3)
    small = cv2.resize(images[4], (32, 32), interpolation=cv2.INTER_AREA) / 255
    assert np.abs(item["image"].numpy() - small).mean() < 0.03
    assert "labels" not in item and "face_mask" not in item


def test_without_the_data_set_a_sentence_says_that_frames_are_needed(orphan):
    frames, _ = orphan
    for ask in (frames.store, frames.require_clip, lambda: frames.read_frame(0)):
        with pytest.raises(NTalkerError, match=r"frames of the data set are needed .* is not there"):
            ask()


def test_resizing_is_the_data_parsers(folder):
    outputs = TalkerDataParserConfig(data=folder).setup().get_dataparser_outputs("train")
    with pytest.raises(NTalkerError, match="image-size"):
        TalkerDataset(outputs, scale_factor=0.5)
