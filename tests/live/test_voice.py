"""Sound in pieces becomes blocks of sound and lips: complete, in step, without jumps, and forgotten when it must be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.live_head import AHEAD, LoudnessLips

from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.voice import BLOCK, EASE, Spoken, Voice
from ntalker_ns.media.upload import LONGEST

REST = np.zeros(1, np.float32)


def new_voice() -> Voice:
    return Voice(LoudnessLips(), REST)


def blocks(voice: Voice, count: int) -> list[Spoken]:
    return [voice.next() for _ in range(count)]


def sound_of(spoken: list[Spoken]) -> np.ndarray:
    return np.concatenate([block.sound for block in spoken])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_all_of_a_sound_is_spoken_once_and_in_step_with_its_lips(lengths: list[int]):
    rng = np.random.default_rng(len(lengths))
    whole = rng.uniform(-1, 1, sum(lengths)).astype(np.float32)
    voice = new_voice()
    for piece in np.split(whole, np.cumsum(lengths)[:-1]):
        voice.push(piece)
    voice.end()
    spoken = blocks(voice, len(whole) // BLOCK + 3)
    np.testing.assert_array_equal(sound_of(spoken)[: len(whole)], whole)
    assert not sound_of(spoken)[len(whole) :].any()
    assert not spoken[-1].speaking and not voice.busy
    assert [block.consumed for block in spoken] == [min(i * BLOCK, len(whole)) for i in range(len(spoken))]
    whole_blocks = len(whole) // BLOCK
    wanted = np.abs(whole[: whole_blocks * BLOCK]).reshape(-1, BLOCK).max(axis=1, initial=0.0)
    eased = EASE ** np.arange(1, whole_blocks + 1) * (0.0 - wanted[0] if whole_blocks else 0.0)
    lips = [float(block.lips[0]) for block in spoken[:whole_blocks]]
    np.testing.assert_allclose(lips, wanted + eased, atol=1e-5)


def test_one_sound_follows_another_and_lips_of_the_first_do_not_see_the_second():
    voice = new_voice()
    for loudness in (0.5, 0.25):
        voice.push(np.full(2 * BLOCK, loudness, np.float32))
        voice.end()
    sound = sound_of(blocks(voice, 5))
    assert sound.reshape(5, BLOCK).mean(axis=1).tolist() == [0.5, 0.5, 0.25, 0.25, 0.0]


def test_sound_that_comes_late_is_waited_for_in_silence():
    voice = new_voice()
    voice.push(np.full(AHEAD - 1, 0.5, np.float32))
    assert not voice.next().speaking
    voice.push(np.full(1, 0.5, np.float32))
    assert voice.next().speaking
    assert not voice.next().speaking
    voice.end()
    assert voice.next().speaking


def test_speech_begins_and_ends_without_a_jump():
    voice = new_voice()
    voice.push(np.full(10 * BLOCK, 1.0, np.float32))
    voice.end()
    lips = np.array([block.lips[0] for block in [*blocks(voice, 24)]])
    assert np.abs(np.diff(lips, prepend=0.0)).max() <= 1.0 - EASE + 1e-6
    assert lips[9] > 0.99 and lips[-1] < 0.01


def test_an_interruption_closes_the_lips_from_the_next_block_on_and_forgets_the_rest():
    voice = new_voice()
    voice.push(np.full(50 * BLOCK, 1.0, np.float32))
    before = blocks(voice, 10)[-1]
    voice.clear()
    after = blocks(voice, 12)
    assert not any(block.speaking or block.sound.any() for block in after)
    assert after[0].lips[0] <= EASE * before.lips[0] + 1e-6
    assert after[-1].lips[0] < 0.01
    assert after[0].consumed == 50 * BLOCK
    assert not voice.busy


def speak_live(late_for: int, pause: bool, live: bool) -> int:
    """Blocks that a talker's sound is behind, after nothing of it arrived for a while."""
    voice = new_voice()
    if live:
        voice.talk()
    loud = np.full(BLOCK, 0.5, np.float32)
    voice.push(np.tile(loud, 2))
    spoken = blocks(voice, 1 + late_for)
    voice.push(np.tile(loud, late_for + 1))
    for index in range(20):
        voice.push(0.01 * loud if pause and index >= 10 else loud)
        spoken.append(voice.next())
    return (2 + late_for + 21 - 1) - spoken[-1].consumed // BLOCK


def test_a_talker_who_was_late_is_caught_up_with_in_pauses_only():
    in_time = speak_live(0, pause=False, live=True)
    assert speak_live(4, pause=True, live=True) <= in_time
    assert speak_live(4, pause=False, live=True) == in_time + 4
    assert speak_live(4, pause=True, live=False) == in_time + 4


def test_too_much_or_broken_sound_is_refused():
    voice = new_voice()
    with pytest.raises(NTalkerError, match="More than 10 minutes"):
        voice.push(np.zeros(LONGEST * 16000 + 1, np.float32))
    with pytest.raises(NTalkerError, match="not numbers"):
        voice.push(np.array([np.nan], np.float32))
    assert not voice.busy
