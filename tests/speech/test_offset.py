"""Sound against picture: known offsets are found."""

import numpy as np
import pytest

from ntalker_ns.demo.clip import make_clip
from ntalker_ns.media.sound import read_audio
from ntalker_ns.speech.offset import SyncCurve, shifted, sync_curve
from ntalker_ns.speech.prior import load_prior


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Twelve seconds of the made-up clip's sound, and its true mouth openings."""
    path = tmp_path_factory.mktemp("offset") / "clip.mp4"
    truth = make_clip(path, 12.0, 128, seed=3)
    return read_audio(path), truth.mouth_opening


@pytest.mark.parametrize("lag", [-5.0, -2.5, 1.0, 4.0])
def test_a_shift_of_the_made_up_clip_is_found(spoken: tuple[np.ndarray, np.ndarray], lag: float):
    waveform, openings = spoken
    zero = sync_curve(waveform, openings)
    assert zero.is_confident
    moved = sync_curve(shifted(waveform, -lag), openings)
    assert moved.lag - zero.lag == pytest.approx(lag, abs=0.5)


def test_unknown_openings_are_left_out(spoken: tuple[np.ndarray, np.ndarray]):
    waveform, openings = spoken
    holes = openings.copy()
    holes[50:90] = np.nan
    assert sync_curve(waveform, holes).lag == pytest.approx(sync_curve(waveform, openings).lag, abs=0.3)


def test_another_persons_mouth_gives_no_confident_peak(spoken: tuple[np.ndarray, np.ndarray]):
    waveform, openings = spoken
    assert not sync_curve(waveform, openings[::-1].copy()).is_confident
    assert not sync_curve(waveform, np.full_like(openings, 0.1)).is_confident
    assert not sync_curve(np.zeros_like(waveform), openings).is_confident


def test_the_peak_lies_between_lags():
    lags = np.arange(-16, 17) / 2
    curve = SyncCurve(lags, 0.8 - 0.05 * (lags - 1.3) ** 2)
    assert curve.lag == pytest.approx(1.3)
    assert curve.peak == pytest.approx(0.8, abs=0.01)


def test_a_peak_at_the_end_of_the_range_says_nothing():
    lags = np.arange(-16, 17) / 2
    assert not SyncCurve(lags, 0.05 * lags + 0.3).is_confident


def test_shifting_moves_sound_by_whole_samples():
    waveform = np.arange(6400, dtype=np.float32)
    later, earlier = shifted(waveform, 2.0), shifted(waveform, -2.0)
    assert len(later) == len(earlier) == 6400
    np.testing.assert_array_equal(later[1280:], waveform[:-1280])
    np.testing.assert_array_equal(earlier[:-1280], waveform[1280:])
    assert not later[:1280].any()
    assert not earlier[-1280:].any()


def test_the_prior_is_whole():
    prior = load_prior()
    assert prior.weights.shape == (512, 10)
    assert prior.basis.shape == (10, 53, 2)
    assert np.linalg.eigvalsh(prior.precision.numpy()).min() > 0
