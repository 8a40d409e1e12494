"""Windows over a feature track."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.audio.windows import windows_of_track


@given(st.integers(0, 60), st.integers(1, 40))
def test_each_window_holds_the_sixteen_steps_around_its_frame(steps: int, frames: int):
    track = np.arange(1, steps + 1, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    windows = windows_of_track(track, frames, padding=-5.0)
    assert windows.shape == (frames, 16, 3)
    for frame in range(frames):
        for place in range(16):
            step = 2 * frame - 8 + place
            assert np.all(windows[frame, place] == (step + 1 if 0 <= step < steps else -5.0))


def test_the_middle_of_the_window_is_the_time_of_the_frame():
    middles = (np.arange(100, dtype=np.float32)[:, None] + 0.5) / 50.0
    windows = windows_of_track(middles, 50)
    for frame in range(4, 46):
        assert windows[frame].mean() == pytest.approx(frame / 25.0, abs=1e-5)
