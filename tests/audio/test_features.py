"""Feature files and the extractors' shared rules."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntalker_ns.audio.features import (
    FeatureInfo,
    check_same_kind,
    create_extractor,
    extractor_of,
    load_features,
    read_features,
    save_features,
)
from ntalker_ns.errors import NTalkerError


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_info_survives_json():
    info = FeatureInfo("hubert", "a/b", 1024)
    assert FeatureInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_saved_features_are_read_back(tmp_path: Path):
    extractor = create_extractor("mel")
    windows = extractor(0.1 * random(16000), 25)
    save_features(tmp_path / "audio_features", windows, extractor.info)
    again, info = read_features(tmp_path / "audio_features", "mel")
    np.testing.assert_array_equal(again, windows)
    assert info == extractor.info == extractor_of(info).info
    assert sorted(path.name for path in (tmp_path / "audio_features").iterdir()) == ["mel.json", "mel.npy"]


def test_windows_of_ones_own_are_taken_as_they_are(tmp_path: Path):
    windows = random(30, 16, 29)
    path = saved(tmp_path / "ds.npy", windows.astype(np.float64))
    np.testing.assert_array_equal(load_features(path, 30, 29), windows)
    np.testing.assert_array_equal(load_features(path, 29, 29), windows[:29])
    np.testing.assert_array_equal(load_features(path, 31)[30], windows[29])


def test_a_track_of_ones_own_is_cut_into_windows(tmp_path: Path):
    track = random(59, 7)
    windows = load_features(saved(tmp_path / "t.npy", track), 30)
    assert windows.shape == (30, 16, 7)
    np.testing.assert_array_equal(windows[10], track[12:28])


@pytest.mark.parametrize(
    "array,message",
    [
        (random(30, 16, 29), "Feature width 29 .* the head was trained with 1024"),
        (random(30, 8, 1024), "windows of 8 steps"),
        (random(30), "it must be"),
        (random(40, 16, 1024), "covers 40 frames at 25 fps, but the sound has 30"),
        (random(20, 1024), "covers 10 frames"),
        (np.where(np.arange(30)[:, None, None] == 4, np.nan, random(30, 16, 1024)), "first in row 4"),
        (np.array(["a"] * 30), "numbers"),
        (np.zeros((0, 16, 1024)), "numbers"),
    ],
)
def test_unfit_files_are_refused(tmp_path: Path, array: np.ndarray, message: str):
    with pytest.raises(NTalkerError, match=message):
        load_features(saved(tmp_path / "x.npy", array), 30, 1024)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no feature file"):
        load_features(tmp_path / "none.npy", 30)
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(NTalkerError, match="not a NumPy array"):
        load_features(tmp_path / "text.npy", 30)
    with pytest.raises(NTalkerError, match="--features hubert"):
        read_features(tmp_path, "hubert")
    (tmp_path / "mel.json").write_text("{}")
    with pytest.raises(NTalkerError, match="does not describe"):
        read_features(tmp_path, "mel")


def test_extractors_refuse_what_is_no_sound():
    extractor = create_extractor("mel")
    with pytest.raises(NTalkerError, match="samples"):
        extractor(np.zeros(0, np.float32), 25)
    with pytest.raises(NTalkerError, match="not numbers"):
        extractor(np.array([0.0, np.nan], np.float32), 25)
    with pytest.raises(NTalkerError, match="choose from whisper, mel, wav2vec2, hubert"):
        create_extractor("deepspeech")


def test_a_feature_file_cannot_be_computed_from_new_audio():
    with pytest.raises(NTalkerError, match=r"\.npy file of width 29"):
        extractor_of(FeatureInfo("aud_ds", None, 29))


def test_features_of_another_extractor_are_refused_at_the_same_width():
    trained = FeatureInfo("hubert", "hub/id", 32)
    check_same_kind(trained, replace(trained, model="a/folder"))
    with pytest.raises(NTalkerError, match=r"hubert .* mel"):
        check_same_kind(trained, FeatureInfo("mel", None, 32))
