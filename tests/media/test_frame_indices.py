"""Evenly spaced frames and runs of frames."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.media.frame_indices import evenly_spaced, longest_run, runs


@given(st.integers(1, 60), st.integers(1, 60))
def test_evenly_spaced_indices_reach_both_ends(count: int, total: int):
    chosen = evenly_spaced(count, total)
    assert len(chosen) == min(count, total) and chosen[0] == 0
    assert count == 1 or chosen[-1] == total - 1
    assert np.ptp(np.diff(chosen)) <= 1 if len(chosen) > 2 else True


@given(st.lists(st.booleans(), max_size=30))
def test_runs_are_what_is_true(chosen: list[bool]):
    found = np.zeros(len(chosen), bool)
    for first, end in runs(np.array(chosen, bool)):
        assert not found[max(first - 1, 0) : end].any()
        found[first:end] = True
    assert found.tolist() == chosen


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_longest_run_is_the_longest(chosen):
    start, length = longest_run(np.array(chosen))
    if not any(chosen):
        assert (start, length) == (0, len(chosen))
        return
    text = "".join("x" if value else "." for value in chosen)
    longest = max(text.split("."), key=len)
    assert length == len(longest) and start == text.index(longest)
