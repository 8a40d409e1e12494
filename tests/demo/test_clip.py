"""The made-up clip is what it says it is, and the tracker finds what is known of it."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import CLIP_SECONDS, CLIP_SIZE, DemoClip
from scipy.spatial.transform import Rotation

from ntalker_ns.demo.clip import FPS, draw_frame
from ntalker_ns.demo.motion import Motion, blinks, make_motion, mouth_opening_of_speech
from ntalker_ns.demo.photograph import load_portrait
from ntalker_ns.demo.speech import NEW_TEXT, TRAINING_TEXT, speech_of_length
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.espeak import synthesize

RATE = 16000


def vowel_like_burst(centre: float, seconds: float) -> np.ndarray:
    """700 Hz, where open vowels have their first formant, under a Gaussian of 0.1 s around `centre`."""
    times = np.arange(round(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * 700 * times) * np.exp(-0.5 * ((times - centre) / 0.1) ** 2)).astype(np.float32)


def test_the_texts_share_no_word_sequence():
    trained = TRAINING_TEXT.lower().split()
    new = NEW_TEXT.lower().split()
    pairs = {tuple(trained[i : i + 3]) for i in range(len(trained) - 2)}
    assert not pairs & {tuple(new[i : i + 3]) for i in range(len(new) - 2)}


def test_speech_has_the_length_asked_for_and_is_heard():
    waveform, rate = speech_of_length(TRAINING_TEXT, 1.5)
    assert len(waveform) == round(1.5 * rate)
    assert np.abs(waveform).max() <= 1.0
    assert np.sqrt(np.mean(waveform**2)) > 0.02


def test_an_unknown_voice_is_said():
    with pytest.raises(NTalkerError, match="no-such-voice"):
        synthesize("Yes.", voice="no-such-voice")


def test_the_mouth_is_closed_in_silence():
    seconds = np.arange(25) / FPS
    assert mouth_opening_of_speech(np.zeros(RATE, np.float32), RATE, seconds).max() == 0.0


def test_the_mouth_opens_at_the_vowel_without_delay():
    seconds = np.arange(50) / FPS
    opening = mouth_opening_of_speech(vowel_like_burst(1.1, 2.0), RATE, seconds)
    centre = float((seconds * opening).sum() / opening.sum())
    assert opening.max() > 0.1
    assert centre == pytest.approx(1.1, abs=0.02)


def test_hiss_does_not_open_the_mouth_as_a_vowel_does():
    hiss = np.random.default_rng(0).normal(size=2 * RATE)
    spectrum = np.fft.rfft(hiss)
    spectrum[np.fft.rfftfreq(len(hiss), 1.0 / RATE) < 4000.0] = 0.0
    sound = np.concatenate([vowel_like_burst(1.0, 2.0), np.fft.irfft(spectrum).astype(np.float32)])
    opening = mouth_opening_of_speech(sound, RATE, np.arange(100) / FPS)
    assert opening[60:].max() < 0.1 * opening[:50].max()


def test_blinks_close_and_open_fully():
    closed = blinks(np.arange(250) / FPS, np.random.default_rng(1))
    assert closed.min() == 0.0
    assert closed.max() > 0.9
    assert 0.02 < np.mean(closed > 0.5) < 0.2


def test_motion_is_smooth_and_depends_on_the_seed():
    waveform, rate = speech_of_length(TRAINING_TEXT, 4.0)
    one, other = (make_motion(waveform, rate, 100, FPS, seed) for seed in (0, 1))
    assert np.abs(np.diff(one.angles, n=2, axis=0)).max() < np.radians(0.3)
    assert np.abs(one.angles - other.angles).max() > np.radians(1.0)
    np.testing.assert_array_equal(one.mouth_opening, other.mouth_opening)


def still(opening: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Motion:
    return Motion(np.array([opening]), np.zeros(1), np.zeros((1, 3)), np.array([shift]))


def test_opening_the_mouth_changes_the_mouth_and_nothing_above_it():
    portrait = load_portrait()
    closed, opened = (draw_frame(portrait, still(gap), 0, 200).astype(int) for gap in (0.0, 0.14))
    changed = np.abs(closed - opened).max(axis=-1) > 20
    rows = np.flatnonzero(changed.any(axis=1))
    assert changed.sum() > 200
    # The lips lie below the middle of the picture, where the nose ends at 0.57 of its height.
    assert rows.min() > 0.55 * 200


def test_a_shift_of_the_head_moves_it_by_as_many_px():
    portrait = load_portrait()
    size = 290  # one px of the photograph is one px of the picture
    before, after = (draw_frame(portrait, still(0.05, (x, 0.0, 0.0)), 0, size) for x in (0.0, 10.0 / 147.0))
    face = (slice(120, 160), slice(110, 180))
    errors = [np.abs(before[face].astype(int) - np.roll(after, -s, axis=1)[face]).mean() for s in range(20)]
    assert int(np.argmin(errors)) in (10, 11)  # nearer parts of the face move by a little more than the cheeks


def test_the_clip_has_its_frames_its_sound_and_its_truth(demo_clip: DemoClip):
    truth = demo_clip.truth
    with av.open(str(demo_clip.path)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.width, video.height) == (CLIP_SIZE, CLIP_SIZE)
        assert float(audio.duration * audio.time_base) == pytest.approx(CLIP_SECONDS, abs=0.05)
        assert sum(1 for _ in container.decode(video=0)) == round(CLIP_SECONDS * FPS)
    assert truth.poses.shape == (75, 4, 4)
    rotations = truth.poses[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (75, 1, 1)), atol=1e-12)
    # The camera stands before the face (-y) and looks at it: its back axis points towards -y.
    assert (truth.poses[:, 1, 3] < -3.0).all()
    assert (truth.poses[:, 1, 2] < -0.9).all()


@pytest.mark.slow
def test_the_tracker_finds_the_known_motion(demo_clip: DemoClip, processed_clip: Path):
    transforms = json.loads((processed_clip / "transforms.json").read_text())
    frames = transforms["frames"]
    assert len(frames) == len(demo_clip.truth.poses)
    assert all(frame["tracked"] for frame in frames)
    solved = Rotation.from_matrix(np.array([frame["transform_matrix"] for frame in frames])[:, :3, :3])
    true = Rotation.from_matrix(demo_clip.truth.poses[:, :3, :3])
    # The solved head space is the true one up to one rotation.
    aligned = (solved * true.inv()).mean() * true
    error = np.degrees((aligned.inv() * solved).magnitude())
    spread = np.degrees((true.mean().inv() * true).magnitude())
    assert np.sqrt(np.mean(error**2)) < 2.0
    assert np.sqrt(np.mean(error**2)) < 0.6 * np.sqrt(np.mean(spread**2))


@pytest.mark.slow
def test_the_data_set_knows_mouth_and_eyes(demo_clip: DemoClip, processed_clip: Path):
    frames = json.loads((processed_clip / "transforms.json").read_text())["frames"]
    opening = np.array([frame["mouth_opening"] for frame in frames])
    openness = np.array([frame["eye_openness"] for frame in frames])
    assert np.corrcoef(opening, demo_clip.truth.mouth_opening)[0, 1] > 0.93
    assert 0.6 < opening.std() / demo_clip.truth.mouth_opening.std() < 1.4
    assert np.corrcoef(openness, 1.0 - demo_clip.truth.blink)[0, 1] > 0.85
