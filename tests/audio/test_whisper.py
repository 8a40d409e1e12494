"""Whisper features, against transformers' Whisper."""

import numpy as np
import pytest
import torch
from support.sounds import speechlike
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder as ReferenceEncoder

from ntalker_ns.audio.whisper import WhisperEncoder, at_level, load_whisper, log_mel, sinusoids
from ntalker_ns.demo.speech import NEW_TEXT, write_speech
from ntalker_ns.media.sound import read_audio


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Eight seconds of espeak's speech."""
    return read_audio(write_speech(tmp_path_factory.mktemp("words") / "words.wav", NEW_TEXT, seconds=8.0))


def reference_encoder(width: int, heads: int, layers: int) -> ReferenceEncoder:
    config = WhisperConfig(
        d_model=width, encoder_attention_heads=heads, encoder_layers=layers, encoder_ffn_dim=4 * width, num_mel_bins=80
    )
    return ReferenceEncoder(config).eval()


def test_log_mel_is_whispers():
    waveform = speechlike(30.0)
    expected = WhisperFeatureExtractor()(waveform, sampling_rate=16000, return_tensors="pt").input_features[0]
    torch.testing.assert_close(log_mel(waveform), expected, atol=1e-4, rtol=0)


def test_encoder_computes_what_transformers_does():
    torch.manual_seed(0)
    reference = reference_encoder(48, 3, 2)
    encoder = WhisperEncoder(48, 3, 2).eval()
    tensors = {name: value for name, value in reference.state_dict().items() if name.startswith(("conv", "layers"))}
    encoder.load_state_dict(tensors)
    mel = torch.randn(80, 3000)
    with torch.no_grad():
        # The last of these is normalised.
        expected = reference(mel[None], output_hidden_states=True).hidden_states
        before_the_last = WhisperEncoder(48, 3, 1).eval()
        before_the_last.load_state_dict({name: value for name, value in tensors.items() if "layers.1" not in name})
        torch.testing.assert_close(before_the_last(mel), expected[1][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(reference.layer_norm(encoder(mel)), expected[2][0], atol=1e-4, rtol=1e-4)


def test_positions_are_whispers():
    torch.testing.assert_close(sinusoids(1500, 384), reference_encoder(384, 6, 1).embed_positions.weight.data)


def test_shipped_features_are_whitened_and_tell_sound_from_silence():
    features = load_whisper()
    track = features.track(speechlike(6.0))
    assert track.shape == (300, features.channels)
    assert track.dtype == np.float32
    assert np.isfinite(track).all()
    assert 0.1 < np.abs(track).mean() < 3.0
    silence = features.track(np.zeros(6 * 16000, np.float32))
    assert np.isfinite(silence).all()
    assert np.abs(track.mean(axis=0) - silence.mean(axis=0)).max() > 1.0


def test_level_changes_nothing():
    waveform = speechlike(4.0)
    loud, quiet = load_whisper().track(waveform), load_whisper().track(0.03 * waveform)
    np.testing.assert_allclose(loud, quiet, atol=2e-2)


def test_silence_is_not_amplified():
    quiet = 1e-5 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert at_level(quiet) is quiet


def test_chunks_agree_with_one_run(words: np.ndarray):
    features = load_whisper()
    whole, parts = features.track(words), features.track(words, chunk=100, context=150)
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(whole.T, parts.T, strict=True)]
    assert np.median(agreement) > 0.9


@pytest.mark.parametrize("seconds", [0.1, 1.0, 31.0])
def test_one_window_for_each_frame(seconds: float):
    frames = max(1, round(25 * seconds))
    windows = load_whisper().windows(speechlike(seconds), frames)
    assert windows.shape == (frames, 16, load_whisper().channels)
    assert np.isfinite(windows).all()


def test_windows_are_centred_on_their_frame(words: np.ndarray):
    features = load_whisper()
    windows = features.windows(words, 100)
    later = features.windows(np.pad(words, (3 * 640, 0)), 103)
    # Three frames later, the windows are those of three frames before.
    agreement = np.corrcoef(windows[20:80].ravel(), later[23:83].ravel())[0, 1]
    assert agreement > 0.85
    assert np.corrcoef(windows[20:80].ravel(), later[20:80].ravel())[0, 1] < agreement - 0.1
