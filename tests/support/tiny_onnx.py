"""A face network as an .onnx file, small enough for a test: mean colours of a 7 x 7 grid, then a matrix.

The file is written field by field (onnx.proto), so that no test needs a package that writes such files.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

FLOAT, INTS, OPSET, IR_VERSION = 1, 7, 13, 8
GRID = 7


def write_face_network(
    path: Path, matrix: Float32[np.ndarray, "147 width"], size: int = 112, scaling: Sequence[str] = ()
) -> Path:
    """Writes a network from (1, 3, size, size) to (1, width).

    Args:
        path: the file.
        matrix: applied to the flattened grid of mean colours, channel by channel.
        size: side of the pictures it takes.
        scaling: operations that the network begins with, Sub and Mul: of 127.5 and 1 / 127.5.
    """
    constants = {"Sub": np.array([127.5], np.float32), "Mul": np.array([1.0 / 127.5], np.float32)}
    names = ["face", *(f"after {kind}" for kind in scaling)]
    scaled = [_node(kind, [name, kind], [f"after {kind}"]) for kind, name in zip(scaling, names, strict=False)]
    window = size // GRID
    pool = _node("AveragePool", [names[-1]], ["grid"], kernel_shape=[window, window], strides=[window, window])
    flat = _node("Flatten", ["grid"], ["flat"])
    project = _node("MatMul", ["flat", "matrix"], ["embedding"])
    graph = b"".join(
        [
            *(_bytes(1, node) for node in (*scaled, pool, flat, project)),
            _bytes(2, b"tiny"),
            _bytes(5, _tensor("matrix", matrix)),
            *(_bytes(5, _tensor(kind, constants[kind])) for kind in scaling),
            _bytes(11, _value("face", (1, 3, size, size))),
            _bytes(12, _value("embedding", (1, matrix.shape[1]))),
        ]
    )
    model = _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, OPSET))
    path.write_bytes(model)
    return path


def mean_colours(face: np.ndarray) -> np.ndarray:
    """What the network's matrix is applied to."""
    window = len(face) // GRID
    scaled = (face.astype(np.float64) - 127.5) / 127.5
    return scaled.reshape(GRID, window, GRID, window, 3).mean(axis=(1, 3)).transpose(2, 0, 1).reshape(-1)


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: list[int]) -> bytes:
    parts = [_bytes(1, name.encode()) for name in inputs] + [_bytes(2, name.encode()) for name in outputs]
    parts.append(_bytes(4, kind.encode()))
    for name, values in attributes.items():
        numbers = b"".join(_number(8, value) for value in values)
        parts.append(_bytes(5, _bytes(1, name.encode()) + numbers + _number(20, INTS)))
    return b"".join(parts)


def _tensor(name: str, values: np.ndarray) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    return sizes + _number(2, FLOAT) + _bytes(8, name.encode()) + _bytes(9, values.astype("<f4").tobytes())


def _value(name: str, shape: Iterable[int]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, sizes)))


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
