"""Lips that meet on [p b m], and lower lip and teeth on [f v]."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata
from support.speakers import made_up_prior, person

from ntalker_ns.audio.clock import frame_count
from ntalker_ns.audio.whisper import load_whisper
from ntalker_ns.face.mesh_indices import LOWER_INNER_LIP, MESH, UPPER_INNER_LIP
from ntalker_ns.media.espeak import Phoneme
from ntalker_ns.speech.closures import Closure, LipClosing, closed_frames, closures_of, load_readout
from ntalker_ns.speech.training.closures import example, fit_readout, spoken

UPPER, LOWER = MESH.lips.index(UPPER_INNER_LIP), MESH.lips.index(LOWER_INNER_LIP)


@pytest.fixture(scope="module")
def basis() -> torch.Tensor:
    return person(made_up_prior(), size=0.02)[0]


@pytest.fixture(scope="module")
def shapes() -> torch.Tensor:
    mixed = torch.randn(6, 6, generator=torch.Generator().manual_seed(4))
    return torch.randn(400, 6, generator=torch.Generator().manual_seed(3)) @ mixed + 0.5


@pytest.fixture(scope="module")
def closing(basis: torch.Tensor, shapes: torch.Tensor) -> LipClosing:
    closing = LipClosing(basis)
    closing.fit(shapes)
    return closing


def height(shapes: torch.Tensor, basis: torch.Tensor, point: int) -> np.ndarray:
    return (shapes.double() @ basis[:, point, 1].double()).numpy()


def opening(shapes: torch.Tensor, basis: torch.Tensor) -> np.ndarray:
    return height(shapes, basis, UPPER) - height(shapes, basis, LOWER)


def test_lips_that_surely_meet_are_as_closed_as_the_person_closes_them(closing, basis, shapes):
    before = opening(shapes, basis)
    closed = np.percentile(before, 5)
    after = opening(closing(shapes, torch.tensor([[1.0, 0.0]]).expand(400, 2)), basis)
    np.testing.assert_allclose(after, closed, atol=1e-4 * np.ptp(before))


def test_lips_that_surely_do_not_meet_stay_but_those_that_are_more_than_closed(closing, basis, shapes):
    before = opening(shapes, basis)
    closed = np.percentile(before, 5)
    stay = before > closed
    for known in (torch.zeros(400, 2), None):
        after = closing(shapes, known)
        torch.testing.assert_close(after[stay], shapes[stay], rtol=0, atol=1e-4)
        np.testing.assert_allclose(opening(after, basis), np.maximum(before, closed), atol=1e-4 * np.ptp(before))


def test_lips_close_with_what_goes_with_it_in_the_film(closing, basis, shapes):
    """The change of shape is the regression of shapes on openings."""
    moved = (closing(shapes, torch.tensor([[1.0, 0.0]]).expand(400, 2)) - shapes).double().numpy()
    before = opening(shapes, basis)
    slope = np.array([np.polyfit(before, component, 1)[0] for component in shapes.double().numpy().T])
    most = int(np.argmax(before))
    change = opening(shapes + torch.from_numpy(moved).float(), basis)[most] - before[most]
    np.testing.assert_allclose(moved[most] / change, slope, rtol=0.01, atol=0.002 * np.abs(slope).max())


def test_the_lower_lip_goes_to_the_teeth_and_the_upper_one_stays(closing, basis, shapes):
    shapes, spread = closing(shapes, None), np.ptp(opening(shapes, basis))
    after = closing(shapes, torch.tensor([[0.0, 1.0]]).expand(400, 2))
    np.testing.assert_allclose(height(after, basis, UPPER), height(shapes, basis, UPPER), atol=1e-3 * spread)
    gap = float(closing.targets[1])
    np.testing.assert_allclose(opening(after, basis), np.minimum(opening(shapes, basis), gap), atol=2e-3 * spread)


def test_the_more_likely_the_further(closing, basis, shapes):
    likely = torch.linspace(0.01, 0.99, 9)
    widest = shapes[opening(shapes, basis).argmax()].expand(9, 6)
    openings = opening(closing(widest, torch.stack([likely, torch.zeros(9)], dim=1)), basis)
    assert (np.diff(openings) < 0).all()


def test_unfitted_or_fitted_to_a_still_mouth_it_changes_nothing(basis, shapes):
    sure = torch.ones(400, 2)
    still = LipClosing(basis)
    still.fit(torch.ones(20, 6))
    for closing in (LipClosing(basis), still):
        torch.testing.assert_close(closing(shapes, sure), shapes)


def test_closures_are_when_phonemes_close_the_lips():
    phonemes = [Phoneme("a", 0.1), Phoneme("p", 0.3), Phoneme("m", 0.5), Phoneme("f", 0.7), Phoneme("s", 0.72)]
    stop, nasal, fricative = closures_of(phonemes, 1.0)
    assert (stop.start, stop.end) == pytest.approx((0.2325, 0.3125))  # 55 ms before the burst, and at least 80
    assert (nasal.start, nasal.end) == pytest.approx((0.49, 0.69))
    assert (fricative.start, fricative.end) == pytest.approx((0.66, 0.74))
    assert [each.is_labiodental for each in (stop, nasal, fricative)] == [False, False, True]


def test_frames_are_closed_as_long_as_closures_last():
    """Against a finely sampled rectangle, smoothed."""
    closed = closed_frames([Closure(0.4, 0.55, False), Closure(1.0, 1.2, True)], 50)
    fine = (np.arange(20000) + 0.5) / 10000
    smooth = gaussian_filter1d(((fine >= 0.4) & (fine < 0.55)).astype(float), 200)
    np.testing.assert_allclose(closed[:, 0], np.interp(np.arange(50) / 25, fine, smooth), atol=1e-3)
    assert closed[:, 1].argmax() in range(26, 30)
    assert closed[:, 1].max() > 0.99


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    ranks, count = rankdata(scores), positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def test_the_shipped_readout_tells_closures_of_new_words_in_a_new_voice():
    text = "A member of my family feeds five lambs. Maybe we bumped the big lamp."
    waveform, closures = spoken(text, "en-us+f4", 150)
    windows = torch.from_numpy(load_whisper().windows(waveform, frame_count(len(waveform))))
    found, known = load_readout()(windows).numpy(), closed_frames(closures, len(windows)) > 0.5
    for kind in (0, 1):
        assert area_under_curve(found[:, kind], known[:, kind]) > 0.9


def test_the_fit_is_that_of_logistic_regression():
    """At the optimum each gradient is zero, written out in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 6, generator=generator) + 1.0
    closed = torch.sigmoid(inputs @ torch.randn(6, 2, generator=generator) - 1.0)
    weights, bias = fit_readout(inputs, closed)
    x, y = inputs.double().numpy(), closed.double().numpy()
    residual = 1.0 / (1.0 + np.exp(-(x @ weights.double().numpy() + bias.double().numpy()))) - y
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-4)
    gradient = (x - x.mean(axis=0)).T @ residual / residual.size + 2 * 0.01 * weights.double().numpy()
    np.testing.assert_allclose(gradient, 0.0, atol=1e-4)


def test_examples_pair_each_window_with_its_closure():
    waveform, closures = spoken("Maybe.", "en-us+f4", 150)
    inputs, closed = example(waveform, closures)
    assert len(inputs) == len(closed) == round(len(waveform) / 640)
    assert closed[:, 0].max() > 0.9
