"""The driving sequence: saving, replaying, new audio."""

import copy
import json
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from support.sequences import make_sequence

from ntalker_ns.driving.sequence import (
    DrivingSequence,
    FolderPictures,
    write_folder,
)
from ntalker_ns.errors import NTalkerError


def test_saved_sequence_loads_equal(tmp_path):
    sequence = make_sequence()
    sequence.save(tmp_path / "driving")
    loaded = DrivingSequence.load(tmp_path / "driving")
    for one, other in ((loaded.track, sequence.track), (loaded.rig, sequence.rig)):
        for each in fields(one):
            np.testing.assert_equal(getattr(one, each.name), getattr(other, each.name))
    assert loaded.track.times.dtype == np.float32 and loaded.track.is_train.dtype == bool
    np.testing.assert_array_equal(loaded.clip_is_train, sequence.clip_is_train)
    for name in ("feature_info", "camera", "fps", "source"):
        assert getattr(loaded, name) == getattr(sequence, name)
    assert loaded.folder == tmp_path / "driving"
    assert sorted(path.name for path in (tmp_path / "driving").iterdir()) == ["sequence.json", "sequence.npz"]


def test_new_audio_replays_back_and_forth():
    sequence = make_sequence(4)
    track = np.random.default_rng(1).normal(size=(9, 16, 3)).astype(np.float32)
    spoken = sequence.with_features(track)
    frames = [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert spoken.track.replay.tolist() == frames
    np.testing.assert_array_equal(spoken.track.camera_to_worlds, sequence.track.camera_to_worlds[frames])
    np.testing.assert_array_equal(spoken.track.eye_openness, sequence.track.eye_openness[frames])
    np.testing.assert_array_equal(spoken.track.features, track)
    np.testing.assert_allclose(spoken.track.times, np.arange(9) / 8, atol=1e-7)
    assert spoken.num_clip_frames == 4 and len(spoken) == 9


def test_new_audio_replays_training_frames_only():
    sequence = make_sequence(8, [True, True, False, False, True, True, True, False])
    spoken = sequence.with_features(np.zeros((6, 16, 3), np.float32))
    assert spoken.track.replay.tolist() == [4, 5, 6, 5, 4, 5]
    assert spoken.track.is_train.all()
    np.testing.assert_array_equal(spoken.clip_is_train, sequence.clip_is_train)


def test_features_of_a_replay_cannot_be_replaced_again():
    spoken = make_sequence(4).with_features(np.zeros((9, 16, 3), np.float32))
    with pytest.raises(NTalkerError, match="replay"):
        spoken.with_features(np.zeros((9, 16, 3), np.float32))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((4, 16, 5), np.float32), "shape"),
        (np.zeros((4, 8, 3), np.float32), "shape"),
        (np.zeros((0, 16, 3), np.float32), "shape"),
        (np.full((4, 16, 3), np.nan, np.float32), "NaN .* frame 0"),
    ],
)
def test_unfit_features_are_refused(features, message):
    with pytest.raises(NTalkerError, match=message):
        make_sequence().with_features(features)


def test_deep_copies_share_the_arrays():
    sequence = make_sequence()
    assert copy.deepcopy({"driving": sequence})["driving"] is sequence


def test_without_pictures_it_says_so():
    with pytest.raises(NTalkerError, match="no pictures"):
        make_sequence().headless_frame(0)


def test_pictures_are_those_of_the_replayed_frame(tmp_path):
    for name in ("headless_frames", "thumbnails"):
        (tmp_path / name).mkdir()
        for i in range(3):
            cv2.imwrite(str(tmp_path / name / f"{i:05d}.jpg"), np.full((8, 8, 3), 50 * (i + 1), np.uint8))
    sequence = replace(make_sequence(3), pictures=FolderPictures(tmp_path))
    spoken = sequence.with_features(np.zeros((5, 16, 3), np.float32))
    assert [round(float(spoken.headless_frame(i).mean()), -1) for i in range(5)] == [50, 100, 150, 100, 50]
    assert [round(float(spoken.thumbnail(i).mean()), -1) for i in range(5)] == [50, 100, 150, 100, 50]
    with pytest.raises(NTalkerError, match=r"plate\.png is missing"):
        spoken.plate()


def test_unreadable_folders_end_in_a_sentence(tmp_path):
    with pytest.raises(NTalkerError, match=r"sequence\.json"):
        DrivingSequence.load(tmp_path)
    make_sequence().save(tmp_path)
    (tmp_path / "sequence.npz").write_bytes(b"broken")
    with pytest.raises(NTalkerError, match=r"sequence\.npz"):
        DrivingSequence.load(tmp_path)
    scalars = json.loads((tmp_path / "sequence.json").read_text())
    (tmp_path / "sequence.json").write_text(json.dumps(scalars | {"format_version": 99}))
    with pytest.raises(NTalkerError, match=r"written by ntalker_ns .* in format 99, but"):
        DrivingSequence.load(tmp_path)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("disk")

    written = write_folder(tmp_path / "driving", make_sequence(), lambda folder: None)
    assert written.folder == tmp_path / "driving"
    before = (tmp_path / "driving/sequence.npz").read_bytes()
    with pytest.raises(RuntimeError, match="disk"):
        write_folder(tmp_path / "driving", make_sequence(9), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["driving"]
    assert (tmp_path / "driving/sequence.npz").read_bytes() == before
