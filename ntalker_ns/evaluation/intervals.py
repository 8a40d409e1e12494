"""How sure a figure is: 95% intervals by the moving-block bootstrap (Kuensch, 1989).

Neighbouring frames are alike, so blocks of them are drawn instead of single frames.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from ntalker_ns.evaluation.metrics.lips import amplitude_ratio, opening_correlation
from ntalker_ns.evaluation.scores import Scores, known_mean

BLOCK = 10
"""Frames of a block, 0.4 s: about a syllable and a half."""
DRAWS = 1000
LEVEL = 0.95

Statistic = Callable[..., float]
"""A figure of one or several series of the same frames."""


def interval(statistic: Statistic, series: Sequence[Float[np.ndarray, " m"]], seed: int = 0) -> tuple[float, float]:
    """The bootstrap's interval of a figure; NaN where there are fewer frames than two blocks.

    Args:
        statistic: the figure.
        series: what it is of, frame by frame.
        seed: of the draws: equal seeds and lengths draw equal frames.
    """
    count = len(series[0])
    if count < 2 * BLOCK:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count - BLOCK + 1, (DRAWS, -(-count // BLOCK)))
    drawn = (starts[..., None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, :count]
    values = [statistic(*(each[frames] for each in series)) for frames in drawn]
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def figure_interval(metric: str, scores: Scores, true: Scores) -> tuple[float, float] | None:
    """Of a metric's figure; None: it is not one of single frames.

    Args:
        metric: its key.
        scores: of the row.
        true: of the true frames.
    """
    found = _frame_by_frame(metric, scores, true)
    return None if found is None else interval(*found)


def difference_interval(metric: str, scores: Scores, other: Scores, true: Scores) -> tuple[float, float] | None:
    """Of the difference between two rows' figures of the same frames, drawn together; None: see `figure_interval`.

    Args:
        metric: its key.
        scores: of the row.
        other: of the row that it is compared with.
        true: of the true frames.
    """
    found, compared = (_frame_by_frame(metric, each, true) for each in (scores, other))
    if found is None or compared is None:
        return None
    (statistic, mine), (_, theirs) = found, compared
    if len(mine[0]) != len(theirs[0]):
        return None

    def difference(*series: Float[np.ndarray, " m"]) -> float:
        return statistic(*series[: len(mine)]) - statistic(*series[len(mine) :])

    return interval(difference, [*mine, *theirs])


def _frame_by_frame(
    metric: str, scores: Scores, true: Scores
) -> tuple[Statistic, list[Float[np.ndarray, " m"]]] | None:
    """How a metric follows from series of the frames, and these; None: it does not, or they are not there."""
    of_openings = {"opening_correlation": opening_correlation, "opening_amplitude": amplitude_ratio}
    if metric in of_openings:
        openings = [each.series.get("opening") for each in (scores, true)]
        if openings[0] is None or openings[1] is None:
            return None
        count = min(len(openings[0]), len(openings[1]))
        return of_openings[metric], [openings[0][:count], openings[1][:count]]
    if metric not in scores.series or metric not in scores.values:
        return None
    return known_mean, [scores.series[metric]]
