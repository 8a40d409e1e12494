"""The data parser: splits, sizes, new audio, and runs whose data set is gone."""

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic_clip import edit_transforms, poses, write_clip

from ntalker_ns.audio.clock import mirrored_replay
from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.driving.build import write_driving
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import write_wav
from ntalker_ns.talker_dataparser import (
    Holdout,
    TalkerDataParserConfig,
    frames_of_split,
    is_same_place,
    read_training_clip,
    train_frames,
)

FRAMES = 22
THIRDS: tuple[Holdout, ...] = ("third-1", "third-2", "third-3")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("data") / "anna", FRAMES, size=48, channels=CHANNELS)


@pytest.fixture
def run(clip, tmp_path):
    """A run's driving folder, and the data set it was made from, which may be taken away."""
    data = tmp_path / "data" / "anna"
    shutil.copytree(clip, data)
    write_driving(*read_training_clip(TalkerDataParserConfig(data=data)), tmp_path / "run" / "driving")
    return data, tmp_path / "run" / "driving"


def outputs(split: str = "train", **options):
    return TalkerDataParserConfig(**options).setup().get_dataparser_outputs(split)


@pytest.mark.parametrize(
    ("holdout", "used", "held"),
    [
        ("tail", 500, range(454, 500)),
        ("validation", 454, range(408, 454)),
        ("third-1", 500, range(0, 166)),
        ("third-2", 500, range(166, 333)),
        ("third-3", 500, range(333, 500)),
        ("none", 500, range(0)),
    ],
)
def test_what_is_held_out_of_500_frames(holdout: Any, used: int, held: range):
    is_train = train_frames(np.ones(500, bool), holdout)
    assert len(is_train) == used
    assert np.flatnonzero(~is_train).tolist() == list(held)


def test_200_frames_keep_19():
    assert np.flatnonzero(~train_frames(np.ones(200, bool), "tail")).tolist() == list(range(181, 200))


@given(st.integers(1, 400))
def test_thirds_hold_out_each_frame_once(num_frames):
    thirds = [~train_frames(np.ones(num_frames, bool), third) for third in THIRDS]
    assert (np.sum(thirds, axis=0) == 1).all()


def test_a_data_sets_own_tail_is_kept():
    own = np.arange(100) < 80
    assert np.flatnonzero(~train_frames(np.ones(100, bool), "tail", own)).tolist() == list(range(80, 100))
    assert len(train_frames(np.ones(100, bool), "validation", own)) == 80
    scattered = np.arange(100) % 7 != 0
    np.testing.assert_array_equal(
        train_frames(np.ones(100, bool), "tail", scattered), train_frames(np.ones(100, bool), "tail")
    )


def test_splits_are_disjoint_unless_nothing_is_held_out():
    seen = np.ones(22, bool)
    is_train = train_frames(seen, "tail")
    assert frames_of_split(is_train, seen, "train").tolist() == list(range(20))
    assert (
        frames_of_split(is_train, seen, "val").tolist() == frames_of_split(is_train, seen, "test").tolist() == [20, 21]
    )
    assert frames_of_split(seen, seen, "val").tolist() == [20, 21]
    assert frames_of_split(seen[:1], seen[:1], "val").tolist() == [0]


def test_the_tail_is_counted_in_frames_that_show_a_face():
    tracked = np.ones(110, bool)
    tracked[[50, 103, 108, 109]] = False
    is_train = train_frames(tracked, "tail")
    assert np.flatnonzero(~is_train).tolist() == list(range(97, 110))
    assert frames_of_split(is_train, tracked, "train").tolist() == [*range(50), *range(51, 97)]
    assert frames_of_split(is_train, tracked, "val").tolist() == [*range(97, 103), *range(104, 108)]
    everything = np.ones(110, bool)
    assert frames_of_split(everything, tracked, "val").tolist() == [*range(97, 103), *range(104, 108)]
    # Its end is the clip's: a tail without a face would leave nothing to judge by.
    tracked[:] = np.arange(110) < 100
    assert frames_of_split(train_frames(tracked, "tail"), tracked, "val").tolist() == list(range(90, 100))
    assert len(train_frames(tracked, "validation")) == 90


def test_frames_without_a_face_are_played_but_neither_trained_on_nor_judged(clip, tmp_path):
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    edit_transforms(data, lambda meta: [meta["frames"][i].update(tracked=False) for i in (4, 5, 20)])
    trained, judged = outputs(data=data), outputs("val", data=data)
    assert trained.metadata["frame_indices"].tolist() == [*range(4), *range(6, 19)]
    assert judged.metadata["frame_indices"].tolist() == [19, 21]
    driving = trained.metadata["driving"]
    assert len(driving) == FRAMES
    assert np.flatnonzero(~driving.clip_is_train).tolist() == [4, 5, 19, 20, 21]
    # A replay goes on over the gap.
    spoken = driving.with_features(np.repeat(driving.track.features, 2, axis=0))
    assert spoken.track.replay.tolist() == mirrored_replay(2 * FRAMES, 19).tolist()
    edit_transforms(data, lambda meta: [frame.update(tracked=False) for frame in meta["frames"]])
    with pytest.raises(NTalkerError, match="has 0 frames with a face"):
        outputs(data=data)


def test_cameras_are_those_of_the_data_set(clip):
    result = outputs("val", data=clip)
    cameras = result.cameras
    np.testing.assert_allclose(cameras.camera_to_worlds.numpy(), poses(FRAMES)[20:, :3], atol=1e-6)
    assert cameras.times is not None
    np.testing.assert_allclose(cameras.times.numpy(), [[20 / 21], [1]], atol=1e-6)
    assert result.metadata["frame_indices"].tolist() == [20, 21]
    assert [path.name for path in result.image_filenames] == ["00020.jpg", "00021.jpg"]
    assert all(path.is_file() for path in result.image_filenames)
    np.testing.assert_array_equal(result.scene_box.aabb.numpy(), [[-1, -1, -1], [1, 1, 1]])


def test_smaller_images_scale_the_intrinsics_and_leave_the_driving_sequence(clip):
    full, small = outputs(data=clip), outputs(data=clip, image_size=24)
    assert int(small.cameras.width[0]) == int(small.cameras.height[0]) == 24
    for name in ("fx", "fy", "cx", "cy"):
        torch.testing.assert_close(getattr(small.cameras, name), getattr(full.cameras, name) / 2)
    assert small.metadata["driving"].camera.width == 48
    np.testing.assert_array_equal(small.metadata["driving"].track.face_boxes, full.metadata["driving"].track.face_boxes)
    assert int(outputs(data=clip, image_size=4096).cameras.width[0]) == 48


def test_fewer_frames(clip):
    result = outputs(data=clip, max_frames=11)
    driving = result.metadata["driving"]
    assert len(driving) == 11 and len(result.cameras) == 10
    assert driving.track.times[-1] == 1
    assert len(outputs(data=clip, max_frames=1, holdout="none").cameras) == 1
    with pytest.raises(NTalkerError, match=r"has 1 frame with a face, too few .* use --pipeline\..*\.holdout none"):
        outputs(data=clip, max_frames=1)


def test_a_prepared_run_is_the_data_sets_driving_sequence(clip, run):
    data, driving = run
    memory, disk = outputs(data=data).metadata["driving"], DrivingSequence.load(driving)
    np.testing.assert_array_equal(memory.track.features, disk.track.features)
    np.testing.assert_array_equal(memory.track.camera_to_worlds, disk.track.camera_to_worlds)
    np.testing.assert_array_equal(memory.plate(), disk.plate())
    for i in (0, 21):
        assert np.abs(memory.headless_frame(i).astype(int) - disk.headless_frame(i)).mean() < 2
    assert disk.thumbnail(0).shape == (48, 48, 3)
    assert sorted(path.name for path in driving.parent.iterdir()) == ["driving"]


def test_a_failed_preparation_leaves_nothing(clip, tmp_path):
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    (data / "masks/00007.png").write_bytes(b"broken")
    with pytest.raises(NTalkerError, match=r"00007\.png \(labels of frame 7\)"):
        write_driving(*read_training_clip(TalkerDataParserConfig(data=data)), tmp_path / "run" / "driving")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((FRAMES, 16, CHANNELS), np.nan, np.float32), "not numbers"),
        (np.zeros((FRAMES, 16, 5), np.float32), "width 5"),
    ],
)
def test_unfit_features_of_a_data_set_are_refused(clip, tmp_path, values, message):
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    np.save(data / "audio_features/mel.npy", values)
    with pytest.raises(NTalkerError, match=message):
        outputs(data=data)


def test_new_audio_drives_every_split(run, tmp_path):
    data, driving = run
    seconds = 1.4
    noise = np.random.default_rng(0).normal(0, 0.1, int(seconds * 16000)).astype(np.float32)
    write_wav(tmp_path / "new.wav", noise)
    shutil.rmtree(data)
    for split in ("train", "val", "test"):
        result = outputs(split, data=tmp_path / "new.wav", driving=driving)
        assert len(result.cameras) == 35
        assert result.metadata["frame_indices"].tolist() == list(range(35))
        spoken = result.metadata["driving"]
        assert spoken.track.replay.tolist() == mirrored_replay(35, 20).tolist()
        assert spoken.track.features.shape == (35, 16, CHANNELS) and np.isfinite(spoken.track.features).all()
        names = result.image_filenames
        root = Path(os.path.commonpath(names))
        assert len({name.relative_to(root).with_suffix("") for name in names}) == 35
        assert result.metadata["clip"] is None and "new audio" in result.metadata["no_frames"]


def test_a_feature_file_drives_too(run, tmp_path):
    _, driving = run
    track = np.random.default_rng(0).normal(size=(9, 16, CHANNELS)).astype(np.float32)
    np.save(tmp_path / "new.npy", track)
    spoken = outputs(data=tmp_path / "new.npy", driving=driving).metadata["driving"]
    np.testing.assert_array_equal(spoken.track.features, track)
    np.save(tmp_path / "new.npy", track[..., :3])
    with pytest.raises(NTalkerError, match="width 3"):
        outputs(data=tmp_path / "new.npy", driving=driving)
    (tmp_path / "new.npy").write_bytes(b"broken")
    with pytest.raises(NTalkerError, match=r"new\.npy' is not a NumPy array file"):
        outputs(data=tmp_path / "new.npy", driving=driving)


def test_audio_that_cannot_be_read_is_named(run, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(NTalkerError, match=r"bad\.wav"):
        outputs(data=tmp_path / "bad.wav", driving=run[1])


def test_audio_without_a_run_is_refused(tmp_path):
    write_wav(tmp_path / "new.wav", np.zeros(16000, np.float32))
    with pytest.raises(NTalkerError, match=r"new\.wav is a file: training needs a data set"):
        outputs(data=tmp_path / "new.wav")


def test_a_run_without_its_data_set_keeps_its_cameras(run):
    data, driving = run
    before = outputs("val", data=data, driving=driving)
    assert before.metadata["clip"] is not None
    shutil.rmtree(data)
    (data / "camera_paths").mkdir(parents=True)
    after = outputs("val", data=data, driving=driving)
    torch.testing.assert_close(after.cameras.camera_to_worlds, before.cameras.camera_to_worlds)
    assert after.metadata["clip"] is None and str(data) in after.metadata["no_frames"]


def test_a_data_set_that_changed_is_not_taken_for_the_runs(run):
    data, driving = run
    edit_transforms(data, lambda meta: meta["frames"][2]["transform_matrix"][0].__setitem__(3, 0.5))
    result = outputs(data=data, driving=driving)
    assert result.metadata["clip"] is None and "not as it was" in result.metadata["no_frames"]


def test_a_data_set_that_is_half_gone_is_no_hindrance_to_rendering(run):
    data, driving = run
    shutil.rmtree(data / "images")
    result = outputs(data=data, driving=driving)
    assert result.metadata["clip"] is None and "22 of the 22 images" in result.metadata["no_frames"]


def test_sizes_that_cannot_be_are_refused(clip):
    with pytest.raises(NTalkerError, match=r"--pipeline\.datamanager\.dataparser\.max-frames"):
        outputs(data=clip, max_frames=0)
    for size in (-4, 4):
        with pytest.raises(NTalkerError, match=rf"dataparser\.image-size must be at least 16, not {size}"):
            outputs(data=clip, image_size=size)


def test_a_size_that_frames_do_not_have_is_said(clip, capsys):
    outputs(data=clip, image_size=48)
    assert capsys.readouterr().out == ""
    outputs(data=clip, image_size=49)
    assert "48 px" in capsys.readouterr().out


def test_a_moved_data_set_is_taken_where_it_is(run, tmp_path):
    data, driving = run
    data.rename(tmp_path / "elsewhere")
    assert outputs(data=tmp_path / "elsewhere", driving=driving).metadata["clip"] is not None


def test_a_mistyped_path_is_an_error_not_the_old_audio(run, tmp_path):
    with pytest.raises(NTalkerError, match=r"neither .* nor .*neww\.wav"):
        outputs(data=tmp_path / "neww.wav", driving=run[1])


def test_a_relative_path_is_found_from_another_folder(run, tmp_path, monkeypatch):
    data, driving = run
    monkeypatch.chdir(tmp_path / "run")
    assert outputs(data=Path("data/anna"), driving=driving).metadata["clip"] is not None
    assert is_same_place(Path("../data/anna"), str(data))
    assert not is_same_place(Path("bella"), str(data)) and not is_same_place(Path(), str(data))


def test_missing_driving_folder_is_named(clip, tmp_path):
    with pytest.raises(NTalkerError, match=r"sequence\.json"):
        outputs(data=clip, driving=tmp_path / "gone")


def test_a_head_without_landmarks_is_refused(clip, tmp_path):
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    np.save(data / "landmarks.npy", np.full((FRAMES, 478, 2), np.nan, np.float32))
    with pytest.raises(NTalkerError, match="landmarks of the mouth"):
        outputs(data=data)


def test_odd_shapes_keep_their_aspect(clip, tmp_path):
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    for folder, name in (("images", "jpg"), ("masks", "png")):
        for path in (data / folder).glob(f"*.{name}"):
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:36])
    cv2.imwrite(str(data / "background.png"), cv2.imread(str(data / "background.png"))[:36])
    edit_transforms(data, lambda meta: meta.update(h=36))
    cameras = outputs(data=data, image_size=24).cameras
    assert (int(cameras.width[0]), int(cameras.height[0])) == (24, 18)
