"""Whisper features of a stream, against the same attention computed over the whole sound with masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sounds import speechlike
from torch.nn import functional as F

from ntalker_ns.audio import whisper_stream
from ntalker_ns.audio.running_level import RunningLevel
from ntalker_ns.audio.whisper import LEVEL, EncoderLayer, at_level, load_whisper, log_mel
from ntalker_ns.audio.whisper_stream import LATER, REACH, STEPS_AHEAD, PartialWindows, WhisperStream, steps_ahead
from ntalker_ns.audio.windows import HOP
from ntalker_ns.errors import NTalkerError

WINDOW_BEGIN = 8


def masked_window(hidden: torch.Tensor, frame: int, ahead: int) -> torch.Tensor:
    """The window of one frame: two layers over all steps, in which none sees what had not been received when it was
    last computed. A step is computed last with the last window that holds it."""
    first, second = load_whisper().encoder.layers
    assert isinstance(first, EncoderLayer)
    assert isinstance(second, EncoderLayer)
    received, begin = 2 * frame + WINDOW_BEGIN + ahead, 2 * frame
    steps = torch.arange(received)
    last_frame = torch.where(steps < begin, steps // 2, frame)
    allowed = torch.arange(received)[None] < (2 * last_frame + WINDOW_BEGIN + ahead)[:, None]
    hidden = hidden[:received]
    for layer, mask in ((first, allowed), (second, torch.ones(received, received, dtype=torch.bool))):
        query, key, value = layer.projections(hidden)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(0, 1).flatten(1)
        hidden = hidden + layer.self_attn["out_proj"](attended)
        hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    return load_whisper().project(hidden[begin:])


@pytest.mark.parametrize("ahead", STEPS_AHEAD.values())
@torch.inference_mode()
def test_windows_are_those_of_masked_attention_over_the_whole_sound(ahead: int, monkeypatch: pytest.MonkeyPatch):
    waveform = at_level(speechlike(3.0))
    # The level and the floor, which a stream cannot know, are those of the whole sound.
    monkeypatch.setattr(RunningLevel, "update", lambda self, step: LEVEL)
    padded = np.pad(waveform, (8 * 320 - LATER, 3200))
    mel = log_mel(padded)
    monkeypatch.setattr(whisper_stream, "FLOOR", float(mel.min()) * 4.0 - 4.0)
    stream = PartialWindows(ahead)
    windows = torch.cat([stream.push(waveform), stream.flush()])
    assert windows.shape == (75, 8 + ahead, 64)
    encoder = load_whisper().encoder
    hidden = encoder.convolved(mel)
    hidden = hidden + encoder.get_buffer("positions")[: len(hidden)]
    hidden[0] = _first_step(mel)
    for frame in (0, 1, 5, 40, 74):
        torch.testing.assert_close(windows[frame], masked_window(hidden, frame, ahead), atol=2e-3, rtol=1e-3)


def _first_step(mel: torch.Tensor) -> torch.Tensor:
    """A stream's first step is preceded by silence, where that of a whole sound is by zeros."""
    encoder = load_whisper().encoder
    silence = mel.min() * torch.ones(80, 4)
    return encoder.convolved(torch.cat([silence, mel[:, :6]], dim=1))[2] + encoder.get_buffer("positions")[0]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=12), st.sampled_from(sorted(STEPS_AHEAD)))
def test_pieces_of_any_length_give_the_same(lengths: list[int], look_ahead: int):
    waveform = speechlike(2.0, seed=1)
    whole, parts = WhisperStream(look_ahead), WhisperStream(look_ahead)
    expected = np.concatenate([whole.push(waveform), whole.flush()])
    pieces = np.split(waveform, np.minimum(np.cumsum(lengths), len(waveform)))
    found = np.concatenate([*(parts.push(piece) for piece in pieces), parts.flush()])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(found) == 50


def test_frames_come_out_look_ahead_after_their_time():
    for look_ahead in STEPS_AHEAD:
        stream, sound = WhisperStream(look_ahead), speechlike(1.0)
        finished = [len(stream.push(sound[place : place + 16])) for place in range(0, len(sound), 16)]
        emitted = np.repeat(np.arange(len(finished)) + 1, finished)  # milliseconds of sound when each came out
        np.testing.assert_array_equal(emitted, 40 * np.arange(len(emitted)) + look_ahead)


@pytest.mark.parametrize("look_ahead", STEPS_AHEAD)
def test_a_frame_depends_on_no_sound_after_its_look_ahead(look_ahead: int):
    waveform, frame = speechlike(1.2, seed=2), 20
    end = 640 * frame + 16 * look_ahead
    windows = []
    for begin in (end - 120, end, len(waveform)):
        sound = waveform.copy()
        sound[begin:] = speechlike(1.2, seed=3)[begin:]
        windows.append(WhisperStream(look_ahead).push(sound)[: frame + 1])
    earlier, same, whole = windows
    np.testing.assert_array_equal(same, whole)
    assert np.abs(earlier[frame] - whole[frame]).max() > 1e-3
    np.testing.assert_allclose(earlier[:frame], whole[:frame], atol=1e-5)


def test_memories_follow_each_other_without_a_jump(monkeypatch: pytest.MonkeyPatch):
    waveform = speechlike(7.0, seed=2)
    stream = PartialWindows(2)
    usual = stream.push(waveform)
    monkeypatch.setattr(whisper_stream, "CONTEXT", 50)
    monkeypatch.setattr(whisper_stream, "RENEWAL", 60)
    often = PartialWindows(2).push(waveform)
    assert usual.shape == often.shape
    differences = (usual - often).abs().mean(dim=(1, 2))
    assert differences[:54].max() < 1e-5  # the second cache begins with step 60 and serves from step 110 on
    assert differences[56:].mean() > 0.01
    steps = (often[1:] - often[:-1]).abs().mean(dim=(1, 2))
    assert steps[60:].max() < 2.0 * steps[:54].max()


def test_a_stream_agrees_with_the_features_of_the_whole_sound():
    waveform = speechlike(6.0, seed=3)
    whole = load_whisper().windows(waveform, 150)[25:-10]
    agreements = []
    for look_ahead in (40, 160):
        stream = WhisperStream(look_ahead)
        windows = np.concatenate([stream.push(waveform), stream.flush()])[25:-10]
        agreements.append(np.corrcoef(windows[:, :8].ravel(), whole[:, :8].ravel())[0, 1])
    assert agreements[0] > 0.8
    assert agreements[1] > agreements[0]


def test_flush_and_clear_begin_anew():
    stream, sound = WhisperStream(), speechlike(1.0)
    once = np.concatenate([stream.push(sound), stream.flush()])
    stream.push(sound[:5000])
    stream.clear()
    np.testing.assert_array_equal(np.concatenate([stream.push(sound), stream.flush()]), once)
    assert len(stream.flush()) == 0


def test_short_sound_gives_a_frame():
    stream = WhisperStream()
    assert len(stream.push(np.full(100, 0.1, np.float32))) == 0
    assert stream.flush().shape == (1, 16, 64)


def test_what_a_stream_cannot_take_is_said():
    with pytest.raises(NTalkerError, match="40, 60, 100, 160 ms ahead, not 50"):
        WhisperStream(50)
    with pytest.raises(NTalkerError, match="mono"):
        WhisperStream().push(np.zeros((2, 100), np.float32))
    with pytest.raises(NTalkerError, match="not numbers"):
        WhisperStream().push(np.full(100, np.nan, np.float32))


def test_running_level_finds_speech_and_is_held_in_noise():
    rng = np.random.default_rng(0)
    level = RunningLevel(-20.0)
    noise = (10 ** (-65 / 20) * rng.standard_normal((400, 320))).astype(np.float32)
    for step in noise:
        level.update(step)
    assert level.level == -20.0
    speech = 0.1 * at_level(speechlike(4.0))  # at -40 dBFS
    for step in speech.reshape(-1, 320):
        level.update(step)
    assert level.level == pytest.approx(-40.0, abs=1.0)
    for step in noise:
        level.update(step)
    assert level.level == pytest.approx(-40.0, abs=3.0)


def test_steps_ahead_fit_into_the_look_ahead():
    for look_ahead, ahead in STEPS_AHEAD.items():
        assert steps_ahead(look_ahead) == ahead
        last = HOP * (ahead - 1) + LATER  # samples after the frame's time
        assert last + REACH == look_ahead * 16
