"""The audio clock against its closed forms."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.audio.clock import frame_count, frame_times, frames_of_times, mirrored_replay, times_of_frames


@given(st.integers(320, 10**7), st.sampled_from([8000, 16000, 44100, 48000]), st.sampled_from([24.0, 25.0, 30.0]))
def test_frames_last_as_long_as_the_sound_to_half_a_frame(samples: int, rate: int, fps: float):
    count = frame_count(samples, rate, fps)
    assert count == 1 or abs(count / fps - samples / rate) <= 0.5 / fps + 1e-9


def test_frame_count_of_whole_seconds_and_of_nothing():
    assert frame_count(128000) == 200
    assert frame_count(0) == 1


def test_times_span_zero_to_one():
    assert times_of_frames(0, 500) == 0.0 and times_of_frames(499, 500) == 1.0
    np.testing.assert_array_equal(frame_times(5), np.array([0, 0.25, 0.5, 0.75, 1], np.float32))
    np.testing.assert_array_equal(frame_times(1), np.zeros(1, np.float32))


@given(st.integers(1, 2000))
def test_every_frame_is_the_nearest_to_its_time(count: int):
    nearest = np.round(frames_of_times(frame_times(count), count))
    np.testing.assert_array_equal(nearest, np.arange(count))


@given(st.integers(1, 400), st.integers(1, 60))
def test_replay_walks_back_and_forth(new_count: int, clip_count: int):
    replay = mirrored_replay(new_count, clip_count)
    forth_and_back = [*range(clip_count), *range(clip_count - 2, 0, -1)]
    expected = (forth_and_back * (new_count // len(forth_and_back) + 1))[:new_count]
    assert replay.dtype == np.int64
    assert replay.tolist() == expected
