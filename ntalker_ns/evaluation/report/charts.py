"""Courses over time as SVG, to be put into a page as they are."""

import html
from collections.abc import Mapping
from itertools import groupby

import numpy as np
from jaxtyping import Float

from ntalker_ns.media.frame_indices import evenly_spaced

COLOURS = ("#111827", "#d1495b", "#2a6f97", "#e9a03b", "#3f8f5f", "#7d5ba6", "#8d6e63")
"""The first one is for the truth."""
WIDTH, HEIGHT = 960, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 34


def line_chart(
    series: Mapping[str, Float[np.ndarray, " n"]], first: int, x_title: str, y_title: str, digits: int = 2
) -> str:
    """Lines over frames, with axes and a legend; unknown frames are gaps.

    Args:
        series: courses by name, NaN where unknown; one of which nothing is known keeps its colour for itself, so that
            a name has the same one in all charts.
        first: the frame that the courses start at.
        x_title: below the horizontal axis.
        y_title: above the vertical one.
        digits: after the decimal point, on the vertical axis.

    Returns:
        An <svg> element; empty text where nothing is known.
    """
    known = np.concatenate([np.asarray(values)[np.isfinite(values)] for values in series.values()] or [np.zeros(0)])
    if not len(known):
        return ""
    count = max(len(values) for values in series.values())
    low, high = _padded_range(float(known.min()), float(known.max()))
    x = np.linspace(LEFT, WIDTH - RIGHT, count) if count > 1 else np.array([LEFT])

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 24}" role="img" aria-label="{html.escape(y_title)}">']
    for value in np.linspace(low, high, 5):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.{digits}f}</text>')
    for place in evenly_spaced(9, count).tolist():
        parts.append(f'<text x="{x[place]:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{first + place}</text>')
    titles = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{html.escape(x_title)}</text>'
    parts.append(titles + f'<text x="4" y="{TOP - 2}">{html.escape(y_title)}</text>')
    place = LEFT
    for index, (name, values) in enumerate(series.items()):
        if not np.isfinite(values).any():
            continue
        colour = COLOURS[index % len(COLOURS)]
        parts += [_line(run, x, values, y, colour) for run in _runs(values)]
        parts.append(f'<rect x="{place}" y="{HEIGHT + 10}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{place + 20}" y="{HEIGHT + 16}">{html.escape(name)}</text>')
        place += 44 + 8 * len(name)
    return "".join([*parts, "</svg>"])


def _padded_range(low: float, high: float) -> tuple[float, float]:
    """Room above and below, but no values below zero where there are none."""
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 1e-3)
    return (max(low - margin, 0.0) if low >= 0 else low - margin), high + margin


def _runs(values: Float[np.ndarray, " n"]) -> list[list[int]]:
    """Stretches of known values."""
    finite = np.isfinite(values)
    return [list(group) for is_known, group in groupby(range(len(values)), key=lambda i: finite[i]) if is_known]


def _line(places: list[int], x: np.ndarray, values: np.ndarray, y, colour: str) -> str:
    if len(places) == 1:
        return f'<circle cx="{x[places[0]]:.1f}" cy="{y(values[places[0]]):.1f}" r="2" fill="{colour}"/>'
    points = " ".join(f"{x[i]:.1f},{y(values[i]):.1f}" for i in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
