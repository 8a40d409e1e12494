"""Whisper's weights, from either format."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from ntalker_ns.errors import NTalkerError
from ntalker_ns.speech.training.whisper import from_ctranslate2, from_transformers, principal_components


@pytest.fixture(scope="module")
def model() -> WhisperModel:
    """A Whisper of tiny.en's encoder and random weights."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        vocab_size=100,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    return WhisperModel(config)


def ctranslate2_file(path: Path, model: WhisperModel) -> Path:
    """The encoder as CTranslate2 stores it."""
    state = {name: value.half().numpy() for name, value in model.encoder.state_dict().items()}
    tensors = {f"encoder/conv{i}/{kind}": state[f"conv{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")}
    for layer in range(4):
        ours, theirs = f"layers.{layer}.", f"encoder/layer_{layer}/"
        query, key, value = (state[f"{ours}self_attn.{name}_proj.weight"] for name in "qkv")
        query_bias, value_bias = (state[f"{ours}self_attn.{name}_proj.bias"] for name in "qv")
        tensors[f"{theirs}self_attention/linear_0/weight"] = np.concatenate([query, key, value])
        tensors[f"{theirs}self_attention/linear_0/bias"] = np.concatenate(
            [query_bias, np.zeros(384, np.float16), value_bias]
        )
        linear = {"self_attention/linear_1": "self_attn.out_proj", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
        for one, other in linear.items():
            for kind in ("weight", "bias"):
                tensors[f"{theirs}{one}/{kind}"] = state[f"{ours}{other}.{kind}"]
        for one, other in (("self_attention", "self_attn_layer_norm"), ("ffn", "final_layer_norm")):
            for kind, name in (("gamma", "weight"), ("beta", "bias")):
                tensors[f"{theirs}{one}/layer_norm/{kind}"] = state[f"{ours}{other}.{name}"]

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += text(name) + shape + struct.pack("<BI", 4, value.nbytes) + value.tobytes()
    path.write_bytes(content)
    return path


def test_both_formats_give_the_same_weights(tmp_path: Path, model: WhisperModel):
    model.save_pretrained(tmp_path / "hub")
    one = from_transformers(str(tmp_path / "hub"))
    other = from_ctranslate2(ctranslate2_file(tmp_path / "model.bin", model))
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(NTalkerError, match="There is no file"):
        from_ctranslate2(tmp_path / "model.bin")
    (tmp_path / "other.bin").write_bytes(b"\0" * 7)
    with pytest.raises(NTalkerError, match="no CTranslate2 model"):
        from_ctranslate2(tmp_path / "other.bin")
    with pytest.raises(NTalkerError, match="cannot be loaded"):
        from_transformers(str(tmp_path / "nothing"))


def test_components_are_white():
    torch.manual_seed(0)
    values = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3.0
    mean, projection = principal_components(values, 4)
    white = (values - mean) @ projection
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4, dtype=torch.float64))
    assert (projection.abs().argmax(dim=0) >= 0).all()
