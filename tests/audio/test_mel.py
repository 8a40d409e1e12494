"""Log-mel features against librosa's filters, closed forms, and what the head needs of them."""

import numpy as np
import pytest

from ntalker_ns.audio import mel


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(16000 * seconds))).astype(np.float32)


def speech_like(seconds: float = 4.0) -> np.ndarray:
    """Noise in half-second bursts with pauses between."""
    sound = noise(seconds)
    burst = (np.arange(len(sound)) // 8000) % 2 == 0
    return sound * burst


def test_filters_are_librosas():
    from librosa.filters import mel as reference

    expected = reference(
        sr=16000,
        n_fft=mel.FRAME,
        n_mels=mel.CHANNELS,
        fmin=mel.LOWEST,
        fmax=mel.HIGHEST,
        norm=None,
        dtype=np.float64,
    )
    np.testing.assert_allclose(mel.mel_filters(), expected, atol=1e-6)


def test_spectrogram_holds_the_mean_square():
    sound = noise(2.0)
    spectrum = mel.spectrogram(sound)
    assert spectrum.shape == (100, mel.FRAME // 2 + 1)
    assert spectrum.sum(axis=1).mean() == pytest.approx(np.square(sound).mean(), rel=0.05)


def test_a_tone_lights_its_own_band():
    time = np.arange(16000) / 16000
    for hertz in (300.0, 1500.0, 5000.0):
        track = mel.mel_track((0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32))
        peaks = np.argmax(mel.mel_filters()[:, round(hertz / 16000 * mel.FRAME)])
        assert np.all(np.abs(track[5:-5].argmax(axis=1) - peaks) <= 1)


def test_a_click_is_at_its_step():
    sound = np.zeros(16000, np.float32)
    sound[320 * 20 + 160] = 1.0
    track = mel.mel_track(sound, level=-20.0)
    assert track.mean(axis=1).argmax() == 20


@pytest.mark.parametrize("gain", [0.05, 0.3, 5.0])
def test_loudness_does_not_matter(gain: float):
    np.testing.assert_allclose(mel.mel_track(gain * speech_like()), mel.mel_track(speech_like()), atol=1e-3)


def test_pauses_do_not_change_the_level():
    talking = noise(2.0)
    with_pause = np.concatenate([talking, np.zeros(32000, np.float32)])
    assert mel.speech_level(with_pause) == pytest.approx(mel.speech_level(talking), abs=0.2)
    assert mel.speech_level(talking) == pytest.approx(-20.0, abs=0.3)


@pytest.mark.parametrize("amplitude", [0.0, 1e-5])
def test_silence_is_silence_and_not_amplified_noise(amplitude: float):
    windows = mel.mel_windows(amplitude * noise(2.0), 50)
    np.testing.assert_array_equal(windows, np.float32(mel.SILENCE))


def test_a_pause_in_speech_is_silence_too():
    track = mel.mel_track(speech_like())
    np.testing.assert_array_equal(track[30:45], np.float32(mel.SILENCE))
    assert track[5:20].mean() > 0.0


def test_windows_depend_on_nothing_but_their_own_sound():
    sound = noise(2.0)
    level = mel.speech_level(sound)
    later = sound.copy()
    later[16000 + 16 * 320 :] = 0.0
    np.testing.assert_array_equal(mel.mel_windows(sound, 50, level)[:26], mel.mel_windows(later, 50, level)[:26])


def test_sound_of_any_length_gives_the_frames_asked_for():
    for samples in (1, 319, 320, 321, 16000):
        assert mel.mel_windows(noise(1.0)[:samples], 30).shape == (30, 16, mel.CHANNELS)
