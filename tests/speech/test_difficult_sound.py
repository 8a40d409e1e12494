"""Sound as it comes: from a telephone, too loud, from one side, very short, very long."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

from ntalker_ns.audio.whisper import load_whisper
from ntalker_ns.demo.speech import NEW_TEXT
from ntalker_ns.media.espeak import Phoneme, synthesize, synthesize_phonemes
from ntalker_ns.media.sound import read_audio
from ntalker_ns.speech.offset import predicted_openings
from ntalker_ns.speech.prior import load_prior
from scripts.benchmarks.languages import called_for

SECONDS = 8


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """At 16 kHz."""
    waveform, rate = synthesize(NEW_TEXT)
    return resample_poly(waveform, 16000, rate).astype(np.float32)[: SECONDS * 16000]


def openings(path: Path) -> np.ndarray:
    return predicted_openings(read_audio(path), SECONDS * 25, load_prior())


def telephone(speech: np.ndarray) -> tuple[int, np.ndarray]:
    """8 kHz, 8 bits by the mu law."""
    narrow = resample_poly(speech, 1, 2)
    compressed = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    coarse = np.round(compressed * 127) / 127
    return 8000, np.sign(coarse) * (256 ** np.abs(coarse) - 1) / 255


def clipped(speech: np.ndarray) -> tuple[int, np.ndarray]:
    """A tenth of the samples beyond the ends of the range."""
    return 16000, np.clip(speech / np.quantile(np.abs(speech), 0.9), -1.0, 1.0)


def one_side(speech: np.ndarray) -> tuple[int, np.ndarray]:
    """Stereo with the speaker on the left and a little noise on the right."""
    noise = 0.001 * np.random.default_rng(0).standard_normal(len(speech))
    return 16000, np.stack([speech, noise], axis=1)


@pytest.mark.parametrize(("change", "least"), [(telephone, 0.8), (clipped, 0.8), (one_side, 0.97)])
def test_lips_follow_it_all_the_same(change, least: float, speech: np.ndarray, tmp_path: Path):
    wavfile.write(tmp_path / "clean.wav", 16000, speech)
    rate, changed = change(speech)
    wavfile.write(tmp_path / "changed.wav", rate, changed.astype(np.float32))
    agreement = np.corrcoef(openings(tmp_path / "clean.wav"), openings(tmp_path / "changed.wav"))[0, 1]
    assert agreement > least


def test_a_tenth_of_a_second_is_enough(speech: np.ndarray):
    windows = load_whisper().windows(speech[:1600], 3)
    assert windows.shape == (3, 16, 64)
    assert np.isfinite(windows).all()


def test_long_sound_is_read_in_parts(speech: np.ndarray):
    features = load_whisper()
    twice = features.track(np.tile(speech, 6))
    once = features.track(np.tile(speech, 2))
    assert twice.shape == (6 * SECONDS * 50, 64)
    # What is four seconds away from a place changes little of it.
    assert np.corrcoef(twice[200:400].ravel(), once[200:400].ravel())[0, 1] > 0.95


def test_spoken_phonemes_have_their_times():
    waveform, rate, phonemes = synthesize_phonemes("Mama, papa.", "en-us")
    starts = [each.start for each in phonemes]
    assert starts == sorted(starts)
    assert next(each.ipa for each in phonemes if each.ipa) == "m"
    first_a = next(each for each in phonemes if "ɑ" in each.ipa)  # noqa: RUF001
    level = [np.square(waveform[int(t * rate) : int((t + 0.05) * rate)]).mean() for t in (first_a.start + 0.03, 0.0)]
    assert level[0] > 2.0 * level[1]


def test_mouths_close_for_bilabials_and_open_for_vowels():
    called = called_for([Phoneme("a", 0.1), Phoneme("m", 0.5), Phoneme("a", 0.7), Phoneme("", 1.2)], 100)
    assert called[15] > 0.9 and called[45] > 0.9
    assert called[30] < 0.2
    assert called[80:].max() < 0.1
