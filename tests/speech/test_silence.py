"""Training examples of silence: their features, and the lips that go with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntalker_ns.audio import mel
from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.speech.lip_regression import LipRegression
from ntalker_ns.speech.silence import (
    LOUDNESSES,
    NOISE_LEVELS,
    most_silent_windows,
    room_sounds,
    silence_examples,
    silent_windows,
)

FRAMES = 40
INFO = FeatureInfo("mel", None, channels=4)


def clip() -> tuple[np.ndarray, np.ndarray]:
    """Lip shapes and mouth openings."""
    rng = np.random.default_rng(0)
    openings = np.linspace(0.0, 0.1, FRAMES)
    openings[3] = np.nan
    return np.stack([openings, rng.standard_normal(FRAMES)], axis=1).astype(np.float32), openings


def test_silence_has_the_lips_of_the_most_closed_frames() -> None:
    shapes, openings = clip()
    windows, closed = silence_examples(INFO, shapes[1:], openings[1:])
    assert len(windows) == len(LOUDNESSES) == 3
    silent = torch.from_numpy(mel.mel_windows(np.zeros(6400, np.float32), 10))
    torch.testing.assert_close(windows[0], silent[4, :, :4])
    torch.testing.assert_close(windows[2] - windows[0], torch.full((16, 4), 0.6))
    # Of 38 known openings two are within the lowest twentieth.
    torch.testing.assert_close(closed, torch.from_numpy(shapes[[1, 2]].mean(axis=0)).expand(3, -1))


def test_no_examples_where_the_features_of_silence_or_all_openings_are_unknown() -> None:
    shapes, openings = clip()
    windows, closed = silence_examples(FeatureInfo("hubert", None, channels=4), shapes, openings)
    assert windows.shape == (0, 16, 4) and closed.shape == (0, 2)
    assert len(silence_examples(INFO, shapes, np.full(FRAMES, np.nan))[0]) == 0


def test_a_film_without_pauses_closes_the_mouth_in_silence() -> None:
    shapes, _ = clip()
    # The louder, the more closed, by chance in seconds of speech.
    openings = np.linspace(0.0, 0.1, FRAMES)
    features = np.random.default_rng(1).standard_normal((FRAMES, 16, 4)).astype(np.float32)
    features += np.linspace(2.0, 0.0, FRAMES, dtype=np.float32)[:, None, None]
    shapes[:, 0] = openings
    windows, closed = silence_examples(INFO, shapes, openings)
    predicted = []
    for silence in (None, (windows[:1], closed[:1])):
        regression = LipRegression(4, torch.zeros(2, 53, 2), FRAMES + 1)
        regression.fit(torch.from_numpy(features), torch.from_numpy(shapes), silence)
        predicted.append(float(regression.lip_shapes(windows)[0, 0]))
    assert predicted[1] < 0.6 * predicted[0]


def test_a_transformers_silence_goes_through_the_extractor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where its weights are; a run keeps its size where they are not."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = HubertConfig(conv_dim=(4,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **sizes)
    HubertModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    info = FeatureInfo("hubert", str(tmp_path), channels=8)
    windows = silent_windows(info)
    count = (1 + 2 * len(NOISE_LEVELS)) * 12
    assert windows.shape == (count, 16, 8) and torch.isfinite(windows).all()
    shapes, openings = clip()
    examples, closed = silence_examples(info, shapes, openings)
    assert torch.equal(examples, windows) and len(closed) == count
    elsewhere = FeatureInfo("hubert", "nobody/none", channels=8)
    assert most_silent_windows(info) == most_silent_windows(elsewhere) == count
    assert len(silence_examples(elsewhere, shapes, openings)[0]) == 0
    assert "lips may not close where speech pauses" in capsys.readouterr().out
    # Fewer examples than there is room for.
    regression = LipRegression(8, torch.zeros(2, 53, 2), FRAMES + count)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(FRAMES, 16, 8)).astype(np.float32))
    regression.fit(features, torch.from_numpy(np.nan_to_num(shapes)))
    assert torch.isfinite(regression.lip_shapes(features)).all()


def test_whispers_silence_goes_through_the_extractor() -> None:
    windows = silent_windows(FeatureInfo("whisper", None, channels=64))
    assert windows.shape == ((1 + 2 * len(NOISE_LEVELS)) * 12, 16, 64)
    assert torch.isfinite(windows).all()


def test_room_sounds_have_their_levels() -> None:
    silence, *noises = room_sounds(1.0)
    assert not silence.any()
    levels = [20.0 * np.log10(noise.std()) for noise in noises]
    np.testing.assert_allclose(levels, 2 * NOISE_LEVELS, atol=0.1)
