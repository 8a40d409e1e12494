"""A clip's sound and its features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntalker_ns.audio.features import read_features
from ntalker_ns.capture.sound import read_sound
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import write_wav
from ntalker_ns.speech.offset import SyncCurve


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of a tone."""
    write_wav(tmp_path / "clip.wav", 0.1 * np.sin(np.arange(32000) / 10).astype(np.float32))
    return tmp_path / "clip.wav"


def test_a_silent_clip_is_refused_unless_its_features_come_from_elsewhere(tmp_path: Path):
    hiss = np.random.default_rng(0).normal(0, 2e-4, 32000).astype(np.float32)
    for name, waveform in (("zeros", np.zeros(32000, np.float32)), ("hiss", hiss)):
        write_wav(tmp_path / f"{name}.wav", waveform)
        with pytest.raises(NTalkerError, match=rf"{name}\.wav is silent throughout"):
            read_sound(tmp_path / f"{name}.wav", "mel", None)
    np.save(tmp_path / "own.npy", np.zeros((50, 16, 4), np.float32))
    read_sound(tmp_path / "zeros.wav", str(tmp_path / "own.npy"), None)


def test_which_of_several_tracks_is_used_is_said(clip: Path):
    sound = replace(read_sound(clip, "mel", None), track=2, tracks=3)
    assert sound.fit(1) == [f"{clip.name} has 3 sound tracks: track 2 is used; --audio-track chooses another."]


def test_sound_that_ends_before_the_picture_is_said(clip: Path):
    sound = read_sound(clip, "mel", None)
    assert sound.fit(50) == sound.fit(52) == []
    (note,) = sound.fit(100)
    assert "ends 2.0 s before the picture" in note


def test_a_feature_file_is_checked_before_and_after_the_frames_are_counted(clip: Path, tmp_path: Path):
    path = tmp_path / "own.npy"
    for values, message in ((np.full((50, 16, 4), np.nan), "not numbers"), (np.zeros((50, 3, 4)), "windows of 3")):
        np.save(path, values)
        with pytest.raises(NTalkerError, match=message):
            read_sound(clip, str(path), None)
    np.save(path, np.zeros((50, 16, 4)))
    sound = read_sound(clip, str(path), None)
    assert sound.fit(51) == []
    with pytest.raises(NTalkerError, match=r"covers 50 frames .*, but the sound has 75"):
        sound.fit(75)


@pytest.mark.parametrize(
    ("stem", "name"), [("deepspeech", "deepspeech"), ("mel", "mel-file"), ("hubert", "hubert-file")]
)
def test_a_feature_file_is_not_taken_for_an_extractors(clip: Path, tmp_path: Path, stem: str, name: str):
    np.save(tmp_path / f"{stem}.npy", np.zeros((50, 16, 4)))
    sound = read_sound(clip, str(tmp_path / f"{stem}.npy"), None)
    assert sound.write(tmp_path / "data", 50, sound.compare(np.zeros(50))) == name
    assert read_features(tmp_path / "data" / "audio_features", name)[1].extractor == name


@pytest.mark.parametrize("features", ["mel", "own.npy"])
def test_a_model_that_would_not_be_used_is_refused(clip: Path, features: str):
    with pytest.raises(NTalkerError, match=f"--feature-model hub/it is not used by --features {features}"):
        read_sound(clip, features, "hub/it")


def curve(lag: float, peak: float) -> SyncCurve:
    """A correlation of this peak at this lag."""
    lags = np.arange(-16, 17) / 2
    return SyncCurve(lags, peak * np.exp(-((lags - lag) ** 2)))


def test_features_are_read_in_step_with_the_picture(clip: Path, tmp_path: Path):
    sound = read_sound(clip, "mel", None)
    windows = {}
    for name, sync in (("late", curve(2.0, 0.8)), ("early", curve(-2.0, 0.8)), ("unknown", curve(2.0, 0.1))):
        sound.write(tmp_path / name, 50, sync)
        windows[name] = read_features(tmp_path / name / "audio_features", "mel")[0]
    # The mouth moves two frames later than the sound: frame 20 has the sound of frame 18.
    np.testing.assert_allclose(windows["late"][12:40], windows["unknown"][10:38], atol=1e-4)
    np.testing.assert_allclose(windows["early"][10:38], windows["unknown"][12:40], atol=1e-4)
    assert (tmp_path / "late" / "audio.wav").read_bytes() == (tmp_path / "unknown" / "audio.wav").read_bytes()


def test_what_is_out_of_step_is_a_note(clip: Path):
    sound = read_sound(clip, "mel", None)
    assert sound.notes(curve(0.2, 0.8)) == []
    assert sound.notes(curve(-3.0, 0.8)) == [
        "The mouth moves 120 ms earlier than the sound: features are moved by that."
    ]
    assert "cannot be estimated" in sound.notes(curve(3.0, 0.2))[0]
