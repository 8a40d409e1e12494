"""wav2vec 2.0 and HuBERT features, from tiny random models saved as the real ones are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ntalker_ns.audio.features import FeatureInfo, create_extractor, extractor_of
from ntalker_ns.audio.speech_models import load_speech_model
from ntalker_ns.errors import NTalkerError

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "do_stable_layer_norm": True,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from transformers import (
        HubertConfig,
        HubertModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    networks = {
        "wav2vec2": Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=11, **SIZES)),
        "hubert": HubertModel(HubertConfig(**SIZES)),
    }
    for name, network in networks.items():
        network.save_pretrained(root / name)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / name)
    return {name: str(root / name) for name in networks}


def sound(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=round(16000 * seconds))).astype(np.float32)


@pytest.mark.parametrize("name,channels", [("wav2vec2", 11), ("hubert", 16)])
def test_features_of_a_folder(folders: dict[str, str], name: str, channels: int):
    extractor = create_extractor(name, folders[name])
    windows = extractor(sound(1.0), 25)
    assert extractor.info == FeatureInfo(name, folders[name], channels)
    assert windows.shape == (25, 16, channels)
    assert windows.dtype == np.float32
    assert np.isfinite(windows).all()
    assert np.all(windows[0, :8] == 0.0)
    assert np.abs(windows[12]).min() > 0.0


def test_the_track_is_the_networks_output_on_the_normalised_sound(folders: dict[str, str]):
    from transformers import Wav2Vec2ForCTC

    wave = sound(0.8)
    network = Wav2Vec2ForCTC.from_pretrained(folders["wav2vec2"]).eval()
    centred = (wave - wave.mean()) / wave.std()
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.pad(centred, 40))[None]).logits[0].numpy()
    track = load_speech_model("wav2vec2", folders["wav2vec2"]).track(wave)
    assert track.shape == (40, 11)
    np.testing.assert_allclose(track, expected, atol=1e-4)


def test_chunks_of_a_transformer_join_closely(folders: dict[str, str]):
    model = load_speech_model("hubert", folders["hubert"])
    whole = model.track(sound(6.0), chunk=10**6)
    parts = model.track(sound(6.0), chunk=50, context=50)
    assert parts.shape == whole.shape == (300, 16)
    # Attention reaches over the whole input, so joins agree closely, not exactly.
    assert np.abs(parts - whole).mean() < 0.1 * whole.std()


def test_loudness_and_offset_do_not_matter(folders: dict[str, str]):
    model = load_speech_model("wav2vec2", folders["wav2vec2"])
    np.testing.assert_allclose(model.track(3.0 * sound(1.0) + 0.1), model.track(sound(1.0)), atol=1e-3)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_absent_weights_name_the_way_out(tmp_path: Path, name: str):
    with pytest.raises(NTalkerError, match=r"--features mel.*folder"):
        create_extractor(name, str(tmp_path))


def test_weights_of_another_width_are_refused(folders: dict[str, str]):
    with pytest.raises(NTalkerError, match=r"Feature width 11 .* trained with 44"):
        extractor_of(FeatureInfo("wav2vec2", folders["wav2vec2"], 44))
