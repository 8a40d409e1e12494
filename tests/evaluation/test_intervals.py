"""Bootstrap intervals: as wide as theory says, and narrower for differences of the same frames."""

import numpy as np
import pytest

from ntalker_ns.evaluation.intervals import BLOCK, difference_interval, figure_interval, interval
from ntalker_ns.evaluation.scores import Scores


def scores(**series: np.ndarray) -> Scores:
    return Scores({name: float(np.nanmean(values)) for name, values in series.items()}, {}, dict(series))


def test_a_mean_has_the_interval_of_the_normal_distribution():
    values = np.random.default_rng(0).standard_normal(2000)
    low, high = interval(lambda each: float(each.mean()), [values])
    width = 2 * 1.96 / np.sqrt(len(values))
    assert low < values.mean() < high
    assert high - low == pytest.approx(width, rel=0.15)


def test_frames_that_are_alike_count_less():
    noise = np.random.default_rng(1).standard_normal(200)
    alike = np.repeat(noise, BLOCK)
    single, blocks = (interval(lambda each: float(each.mean()), [each]) for each in (np.resize(noise, 2000), alike))
    assert blocks[1] - blocks[0] > 2 * (single[1] - single[0])


def test_differences_are_drawn_in_pairs():
    rng = np.random.default_rng(2)
    shared = rng.standard_normal(400)
    mine, theirs = (scores(lip_distance=5.0 + shared + 0.1 * rng.standard_normal(400) + shift) for shift in (0.1, 0.0))
    low, high = difference_interval("lip_distance", mine, theirs, scores()) or (0.0, 0.0)
    assert 0 < low < 0.1 < high
    own = figure_interval("lip_distance", mine, scores()) or (0.0, 0.0)
    assert own[1] - own[0] > 5 * (high - low)


def test_correlations_are_of_openings_with_the_true_ones():
    rng = np.random.default_rng(3)
    true = np.convolve(rng.standard_normal(420), np.ones(5), "valid")[:400]
    opening = true + 0.5 * true.std() * rng.standard_normal(400)
    opening[7] = np.nan
    low, high = figure_interval("opening_correlation", scores(opening=opening), scores(opening=true)) or (0.0, 0.0)
    assert low < 0.89 < high and high - low < 0.1
    frozen = figure_interval("opening_amplitude", scores(opening=0.5 * true), scores(opening=true))
    np.testing.assert_allclose(frozen or (0, 0), 0.5)


def test_what_has_no_frames_has_no_interval():
    assert figure_interval("sync_confidence", scores(), scores()) is None
    assert np.isnan(interval(lambda each: float(each.mean()), [np.zeros(2 * BLOCK - 1)])).all()
