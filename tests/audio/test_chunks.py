"""Chunked runs against one run over everything."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.audio.chunks import run_in_chunks
from ntalker_ns.audio.windows import HOP

MARGIN, REACH = 40, 3


def near_sighted(samples: np.ndarray) -> np.ndarray:
    """Sums of 400 samples, then of seven of those sums: sees three steps to each side."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), HOP + 2 * MARGIN)[::HOP]
    energy = frames.sum(axis=1)
    return np.convolve(energy, np.ones(2 * REACH + 1))[REACH:-REACH, None].astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9000), st.integers(1, 12), st.integers(REACH, 8))
def test_chunks_join_without_a_trace(samples: int, chunk: int, context: int):
    waveform = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    whole = run_in_chunks(waveform, near_sighted, MARGIN, chunk=10**6, context=0)
    parts = run_in_chunks(waveform, near_sighted, MARGIN, chunk, context)
    assert len(whole) == -(-samples // HOP)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6)


def test_runs_are_no_longer_than_a_chunk_and_its_context():
    longest = []

    def watched(samples: np.ndarray) -> np.ndarray:
        longest.append(len(samples))
        return near_sighted(samples)

    run_in_chunks(np.zeros(HOP * 1000, np.float32), watched, MARGIN, chunk=50, context=10)
    assert max(longest) == (50 + 2 * 10) * HOP + 2 * MARGIN
