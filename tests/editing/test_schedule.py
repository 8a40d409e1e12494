"""Equation 3."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.editing.plan import Strength, progressive_schedule
from ntalker_ns.errors import NTalkerError

PAPER = {"guidance": (3.0, 6.0), "steps": (10, 20)}


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        (1, [(6.0, 20)]),
        (2, [(3.0, 10), (6.0, 20)]),
        (3, [(3.0, 10), (4.5, 15), (6.0, 20)]),
        (4, [(3.0, 10), (4.0, 13), (5.0, 16), (6.0, 20)]),
    ],
)
def test_the_papers_bounds(updates: int, expected: list[tuple[float, int]]):
    found = progressive_schedule(updates, **PAPER)
    assert [(step.guidance, step.steps) for step in found] == expected
    assert {step.full_steps for step in found} == {20}


def test_steps_between_are_rounded_down():
    # 10 + floor(i / 3 * 5): 10, 11.67, 13.33, 15.
    assert [step.steps for step in progressive_schedule(4, (1.0, 2.0), (10, 15))] == [10, 11, 13, 15]
    # 1 / 49 * 49 is 0.9999999999999999 in floating point.
    assert [step.steps for step in progressive_schedule(50, (1.0, 2.0), (1, 50))] == list(range(1, 51))


@given(st.integers(2, 40), st.integers(1, 50), st.integers(0, 60))
def test_steps_are_the_exact_floor_and_rise(updates: int, lowest: int, span: int):
    found = [step.steps for step in progressive_schedule(updates, (1.0, 9.0), (lowest, lowest + span))]
    assert found == [lowest + floor(Fraction(i, updates - 1) * span) for i in range(updates)]
    assert found == sorted(found)


def test_equal_bounds_never_change():
    assert progressive_schedule(2, (4.0, 4.0), (7, 7)) == [Strength(4.0, 7, 7)] * 2


@pytest.mark.parametrize(
    ("updates", "guidance", "steps", "said"),
    [
        (0, (3.0, 6.0), (10, 20), "at least one dataset update, not 0"),
        (3, (6.0, 3.0), (10, 20), r"from 6 to 3: check --edit\.guidance"),
        (3, (0.0, 6.0), (10, 20), "from 0 to 6"),
        (3, (3.0, 6.0), (20, 10), r"from 20 to 10: check --edit\.steps"),
        (3, (3.0, 6.0), (0, 10), "from 0 to 10"),
        (1, (3.0, 6.0), (20, 10), "from 20 to 10"),
    ],
)
def test_what_cannot_be_is_said(updates: int, guidance: tuple[float, float], steps: tuple[int, int], said: str):
    with pytest.raises(NTalkerError, match=said):
        progressive_schedule(updates, guidance, steps)
