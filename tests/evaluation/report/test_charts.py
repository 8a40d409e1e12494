"""Charts are well-formed and put points where they belong."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ntalker_ns.evaluation.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_chart


def lines(chart: str) -> list[np.ndarray]:
    root = ElementTree.fromstring(chart)
    points = [line.get("points", "") for line in root.iter("polyline")]
    return [np.array([pair.split(",") for pair in text.split()], float) for text in points]


def test_points_span_the_frames_and_the_values():
    (line,) = lines(line_chart({"true": np.array([2.0, 12.0, 7.0])}, 0, "frame", "opening"))
    np.testing.assert_allclose(line[:, 0], [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT], atol=0.1)
    # Five per cent of the range is left free above and below.
    inside = HEIGHT - TOP - BOTTOM
    assert line[0, 1] == pytest.approx(HEIGHT - BOTTOM - inside * 0.5 / 11.0, abs=0.1)
    assert line[1, 1] == pytest.approx(TOP + inside * 0.5 / 11.0, abs=0.1)
    assert line[2, 1] == pytest.approx((line[0, 1] + line[1, 1]) / 2, abs=0.1)


def test_values_that_are_never_negative_have_no_axis_below_zero():
    (line,) = lines(line_chart({"true": np.array([0.0, 10.0])}, 0, "frame", ""))
    np.testing.assert_allclose(line[:, 1], [HEIGHT - BOTTOM, TOP + (HEIGHT - TOP - BOTTOM) * 0.5 / 10.5], atol=0.1)


def test_unknown_frames_are_gaps():
    values = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 4.0, 5.0])
    chart = line_chart({"a": values}, 10, "frame", "")
    assert [len(line) for line in lines(chart)] == [2, 2]
    assert chart.count("<circle") == 1


def test_names_are_escaped_and_in_the_legend():
    root = ElementTree.fromstring(line_chart({"<b>": np.ones(4), "ours": np.zeros(4)}, 454, "frame", "x & y"))
    texts = [text.text for text in root.iter("text")]
    assert {"<b>", "ours", "frame", "x & y", "454", "457"} <= set(texts)


@pytest.mark.parametrize("values", [np.full(3, np.nan), np.zeros(0)])
def test_nothing_known_is_no_chart(values: np.ndarray):
    assert line_chart({"a": values}, 0, "frame", "") == ""
    assert line_chart({}, 0, "frame", "") == ""


@pytest.mark.parametrize("values", [np.zeros(3), np.array([2.5]), np.full(5, -1.0)])
def test_a_constant_course_is_a_line(values: np.ndarray):
    ElementTree.fromstring(line_chart({"a": values}, 0, "frame", ""))


def test_a_name_keeps_its_colour_where_another_is_unknown():
    ours = np.array([1.0, 2.0])
    both = line_chart({"true": np.array([1.0, 3.0]), "ours": ours}, 0, "frame", "")
    alone = line_chart({"true": np.zeros(0), "ours": ours}, 0, "frame", "")
    colours = [[line.get("stroke") for line in ElementTree.fromstring(one).iter("polyline")] for one in (both, alone)]
    assert colours[0][1:] == colours[1] and "true" not in alone
