"""Reading a data set, and what is said about a broken one."""

import cv2
import numpy as np
import pytest
from support.synthetic_clip import edit_transforms, plate, poses, render, write_clip, write_features

from ntalker_ns.data.readers import read_clip
from ntalker_ns.errors import NTalkerError


@pytest.fixture
def folder(tmp_path):
    return write_clip(tmp_path / "anna", num_frames=5, size=48)


def test_a_clip_reads_as_it_was_written(folder):
    clip = read_clip(folder)
    assert len(clip) == 5 and clip.size == (48, 48) and clip.default_features == "mel"
    np.testing.assert_allclose(clip.camera_to_worlds, poses(5)[:, :3], atol=1e-6)
    image, labels = render(poses(5)[2], 48, 1.9 * 48)
    assert np.abs(clip.image(2).astype(int) - image).mean() < 6
    np.testing.assert_array_equal(clip.labels(2), labels)
    np.testing.assert_array_equal(clip.plate(), plate(48))
    features, info = clip.features(None)
    assert features.shape == (5, 16, 8) and info.extractor == "mel" and info.channels == 8


def test_a_clip_can_be_cut(folder):
    cut = read_clip(folder).first(3)
    assert len(cut) == 3 and len(cut.landmarks) == 3 and len(cut.face_boxes) == 3
    assert cut.features(None)[0].shape[0] == 3


def test_unknown_mouth_openings_are_nan(folder):
    edit_transforms(folder, lambda meta: meta["frames"][1].update(mouth_opening=None))
    edit_transforms(folder, lambda meta: meta["frames"][2].pop("mouth_opening"))
    assert np.isnan(read_clip(folder).mouth_opening).tolist() == [False, True, True, False, False]


def test_frames_count_as_tracked_unless_the_data_set_says_otherwise(folder):
    edit_transforms(folder, lambda meta: meta["frames"][1].pop("tracked"))
    edit_transforms(folder, lambda meta: meta["frames"][3].update(tracked=False))
    clip = read_clip(folder)
    assert clip.tracked.tolist() == [True, True, True, False, True]
    assert clip.first(2).tracked.tolist() == [True, True]


def test_poses_by_landmarks_may_be_missing_but_not_broken(folder):
    assert read_clip(folder).landmark_poses is None
    np.save(folder / "landmark_poses.npy", poses(5)[:, :3])
    by_landmarks = read_clip(folder).first(3).landmark_poses
    assert by_landmarks is not None and np.allclose(by_landmarks, poses(5)[:3, :3], atol=1e-6)
    np.save(folder / "landmark_poses.npy", poses(4)[:, :3])
    with pytest.raises(NTalkerError, match=r"landmark_poses\.npy does not hold"):
        read_clip(folder)


def test_the_shape_of_the_face_may_be_unknown_but_not_broken(folder):
    assert read_clip(folder).face_shape is None
    shape = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    np.save(folder / "face_shape.npy", shape)
    known = read_clip(folder).face_shape
    assert known is not None and np.array_equal(known, shape)
    shape[7, 1] = np.nan
    for broken in (shape, shape[:68]):
        np.save(folder / "face_shape.npy", broken)
        with pytest.raises(NTalkerError, match=r"face_shape\.npy does not hold"):
            read_clip(folder)


def break_pose(meta):
    meta["frames"][3]["transform_matrix"][0][0] = float("nan")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (break_pose, "camera_to_worlds of frame 3"),
        (lambda meta: meta["frames"][2].update(eye_openness=float("inf")), "eye_openness of frame 2"),
        (
            lambda meta: meta["frames"][4].update(file_path="images/none.jpg"),
            r"1 of the 5 images .*none\.jpg \(frame 4\)",
        ),
        (lambda meta: meta.pop("fl_x"), "fl_x"),
        (lambda meta: meta.update(frames=[]), "names no frames"),
        (lambda meta: meta.update(format_version=7), "version 1"),
        (lambda meta: meta.pop("format"), "not of format ntalker"),
    ],
)
def test_broken_transforms_end_in_a_sentence(folder, edit, message):
    edit_transforms(folder, edit)
    with pytest.raises(NTalkerError, match=message):
        read_clip(folder)


def test_no_data_set_ends_in_a_sentence(tmp_path, folder):
    with pytest.raises(NTalkerError, match="There is no data set at"):
        read_clip(tmp_path / "nobody")
    with pytest.raises(NTalkerError, match="is not a data set"):
        read_clip(tmp_path)
    (folder / "transforms.json").write_text("{")
    with pytest.raises(NTalkerError, match=r"transforms\.json cannot be read"):
        read_clip(folder)


def test_broken_pictures_are_named(folder):
    cv2.imwrite(str(folder / "images/00001.jpg"), np.zeros((20, 48, 3), np.uint8))
    (folder / "images/00002.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "masks/00003.png"), np.full((48, 48), 9, np.uint8))
    cv2.imwrite(str(folder / "background.png"), np.zeros((20, 20, 3), np.uint8))
    clip = read_clip(folder)
    with pytest.raises(NTalkerError, match=r"00001\.jpg \(frame 1\) has size 48x20"):
        clip.image(1)
    with pytest.raises(NTalkerError, match=r"00002\.jpg cannot be decoded"):
        clip.image(2)
    with pytest.raises(NTalkerError, match=r"00003\.png \(frame 3\) is not"):
        clip.labels(3)
    with pytest.raises(NTalkerError, match=r"background\.png has size"):
        clip.plate()


def test_missing_masks_are_named(folder):
    (folder / "masks/00004.png").unlink()
    with pytest.raises(NTalkerError, match=r"1 of the 5 masks .*00004\.png"):
        read_clip(folder)


def test_too_short_features_are_refused(folder):
    write_features(folder, np.zeros((2, 16, 8), np.float32))
    with pytest.raises(NTalkerError, match="covers 2 frames"):
        read_clip(folder).features(None)


def test_unknown_features_are_named(folder):
    with pytest.raises(NTalkerError, match="hubert"):
        read_clip(folder).features("hubert")
