"""The prior over speakers, adapted to a person."""

import numpy as np
import pytest
import torch
from support.speakers import CHANNELS, made_up_prior, person, windows_of

from ntalker_ns.speech import adaptation
from ntalker_ns.speech.adaptation import AdaptedPrior, person_basis
from ntalker_ns.speech.closures import LipClosing
from ntalker_ns.speech.prior import window_inputs


def test_a_person_like_the_prior_needs_few_frames():
    prior = made_up_prior()
    basis, codes = person(prior, size=0.01)
    windows, others = windows_of(40), windows_of(200, seed=5)
    own, new = (prior.codes(window_inputs(each.double())) @ codes for each in (windows, others))
    model = AdaptedPrior(CHANNELS, basis)
    model.fit(windows, own.float(), prior=prior)
    model.get_buffer("bounds").copy_(torch.tensor([-1e9, 1e9])[:, None].expand(2, 6))
    predicted = model.lip_shapes(others).double()
    centred = [each - each.mean(dim=0) for each in (predicted, new)]
    assert float((centred[0] * centred[1]).sum() / (centred[0].norm() * centred[1].norm())) > 0.99


@pytest.mark.parametrize("weight", [3.0, 100.0])
def test_the_posterior_is_that_of_bayesian_linear_regression(weight: float, monkeypatch: pytest.MonkeyPatch):
    """Against augmented least squares: pseudo-observations stand for the prior."""
    monkeypatch.setattr(adaptation, "OWN_WEIGHT", weight)
    monkeypatch.setattr(adaptation, "OTHER_WEIGHTS", ())
    prior = made_up_prior(frames=300)
    basis, _ = person(prior, size=0.02)
    windows = windows_of(120, seed=2)
    shapes = torch.randn(120, 6, generator=torch.Generator().manual_seed(3))
    model = AdaptedPrior(CHANNELS, basis)
    model.fit(windows, shapes, prior=prior)
    inputs = window_inputs(windows.double())
    inputs = inputs - inputs.mean(dim=0)
    targets = shapes.double() - shapes.double().mean(dim=0)
    codes = person_basis(prior, targets, basis.float().double())
    by_network = prior.network(inputs) @ codes
    expected, residual = prior.weights @ codes, targets - (by_network - by_network.mean(dim=0))
    root = torch.linalg.cholesky(prior.precision).T
    rows = torch.cat([weight**0.5 * inputs, root]).numpy()
    values = torch.cat([weight**0.5 * residual, root @ expected]).numpy()
    solution = np.linalg.lstsq(rows, values, rcond=None)[0]
    ratio = model.get_buffer("weights").numpy() / solution
    # Each component is multiplied by a gain of its own.
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-3)
    assert (ratio[0] >= 1.0 - 1e-4).all()
    assert (ratio[0] <= 2.0 + 1e-4).all()


def test_a_fitted_model_predicts_regression_plus_network():
    prior = made_up_prior()
    basis, codes = person(prior, size=0.01)
    windows = windows_of(150)
    inputs = window_inputs(windows.double())
    inputs = inputs - inputs.mean(dim=0)
    shapes = prior.codes(inputs) @ codes + 0.3
    model = AdaptedPrior(CHANNELS, basis)
    model.fit(windows, shapes.float(), prior=prior)
    model.closing = LipClosing(basis)
    predicted = model.lip_shapes(windows).double()
    # It follows its film to a few percent of its movements, with its own mean.
    assert float((predicted - shapes).norm()) < 0.05 * float((shapes - shapes.mean(dim=0)).norm())


def test_shapes_stay_within_what_the_film_showed():
    prior = made_up_prior()
    basis, _ = person(prior, size=1.0)
    windows, shapes = windows_of(60), torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    model = AdaptedPrior(CHANNELS, basis)
    model.fit(windows, shapes, prior=prior)
    predicted = model.lip_shapes(100.0 * windows_of(30, seed=8))
    assert (predicted <= shapes.amax(dim=0)).all()
    assert (predicted >= shapes.amin(dim=0)).all()


def test_silence_takes_the_shape_it_is_given():
    prior = made_up_prior(frames=50)
    basis, codes = person(prior, size=0.01)
    windows = windows_of(200)
    shapes = (prior.codes(window_inputs(windows.double())) @ codes).float()
    quiet = torch.full((4, 16, CHANNELS), -2.5)
    closed = shapes.amin(dim=0).expand(4, 6)
    distance = {}
    for name, silence in (("without", None), ("with", (quiet, closed))):
        model = AdaptedPrior(CHANNELS, basis)
        model.fit(windows, shapes, silence=silence, prior=prior)
        model.closing = LipClosing(basis)  # the regression alone
        distance[name] = float((model.lip_shapes(quiet) - closed).norm())
    assert distance["with"] < 0.5 * distance["without"]


def test_unfitted_it_predicts_zeros():
    assert not AdaptedPrior(CHANNELS, torch.zeros(6, 53, 2)).lip_shapes(windows_of(5)).any()


@pytest.mark.parametrize("points", [29, 53])
def test_both_sets_of_landmarks_have_a_basis(points: int):
    assert made_up_prior().basis_of(points).shape == (3, points, 2)


def test_other_numbers_of_landmarks_are_refused():
    with pytest.raises(ValueError, match="not 20"):
        made_up_prior().basis_of(20)


@pytest.mark.parametrize(("follows", "best"), [(True, 100.0), (False, 10.0)])
def test_the_film_weighs_more_where_its_lips_follow_the_sound_closely(
    follows: bool, best: float, monkeypatch: pytest.MonkeyPatch
):
    prior = made_up_prior(frames=2000)
    basis, codes = person(prior, size=0.01)
    windows = windows_of(300, seed=4)
    inputs = window_inputs(windows.double())
    # Lips that follow the sound closely, in another way than the prior's people; or as they do, and not closely.
    generator = torch.Generator().manual_seed(7)
    other = torch.randn(8 * CHANNELS, 6, generator=generator, dtype=torch.float64)
    expected = prior.codes(inputs)
    noise = torch.randn(expected.shape, generator=generator, dtype=torch.float64) * expected.std(dim=0)
    shapes = (inputs @ other if follows else (expected + 0.5 * noise) @ codes).float()
    fitted = []
    for usual, others in ((10.0, (30.0, 100.0)), (best, ())):
        monkeypatch.setattr(adaptation, "OWN_WEIGHT", usual)
        monkeypatch.setattr(adaptation, "OTHER_WEIGHTS", others)
        model = AdaptedPrior(CHANNELS, basis)
        model.fit(windows, shapes, prior=prior)
        fitted.append(model.get_buffer("weights"))
    torch.testing.assert_close(*fitted)
