"""Frames without a face."""

import numpy as np
import pytest

from ntalker_ns.capture.gaps import LONGEST, check_gaps, describe_gaps, find_gaps
from ntalker_ns.errors import NTalkerError


def seen(n: int, *gaps: tuple[int, int]) -> np.ndarray:
    mask = np.ones(n, bool)
    for a, b in gaps:
        mask[a : b + 1] = False
    return mask


@pytest.mark.parametrize("gaps", [[], [(0, 3)], [(5, 5), (9, 14)], [(95, 99)]])
def test_gaps_are_found_where_they_are(gaps: list[tuple[int, int]]):
    assert find_gaps(seen(100, *gaps)) == gaps


def test_the_longest_gap_passes_and_one_more_frame_does_not():
    assert check_gaps(seen(100, (20, 19 + LONGEST)), "a.mp4") == [(20, 19 + LONGEST)]
    with pytest.raises(NTalkerError, match=r"a\.mp4 .* frames 50-60 \(2\.0-2\.4 s\)"):
        check_gaps(seen(100, (3, 4), (50, 50 + LONGEST)), "a.mp4")


def test_no_face_at_all_is_refused():
    with pytest.raises(NTalkerError, match="No face"):
        check_gaps(np.zeros(10, bool), "a.mp4")


def test_many_gaps_are_summed_up():
    assert describe_gaps([(i, i) for i in range(0, 20, 2)], most=2).endswith("and 8 more places")
