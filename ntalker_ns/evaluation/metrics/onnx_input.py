"""What an .onnx file does with its input first: read from its graph, field by field (onnx.proto), for the package that
reads such files does not agree with mediapipe's protobuf."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

GRAPH, NODE, INPUT, OUTPUT, OPERATION = 7, 1, 1, 2, 4
"""Numbers of fields: the model's graph, its nodes, and a node's inputs, outputs and operation."""
SHIFTS, SCALES = {"Sub", "Add"}, {"Mul", "Div"}

Scaling = Literal["none", "inside", "unclear"]
"""Whether a network shifts and scales its pictures itself, does neither, or one of both."""


def input_scaling(file: Path, name: str) -> Scaling:
    """Follows a network's input through shifts and scales by constants up to the first other operation.

    Args:
        file: the network.
        name: of the input.
    """
    content = memoryview(file.read_bytes())
    nodes = [
        {number: [bytes(value) for at, value in _fields(node) if at == number] for number in (INPUT, OUTPUT, OPERATION)}
        for at, graph in _fields(content)
        if at == GRAPH
        for kind, node in _fields(graph)
        if kind == NODE
    ]
    current, found = name.encode(), set()
    for node in nodes:
        operation = node[OPERATION][0].decode() if node[OPERATION] else ""
        if current not in node[INPUT]:
            continue
        if operation not in SHIFTS | SCALES:
            break
        found.add("shift" if operation in SHIFTS else "scale")
        current = node[OUTPUT][0]
    return "none" if not found else "inside" if len(found) == 2 else "unclear"


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that have a length: number and content."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 2:
            length, at = _number(message, at)
            yield key >> 3, message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _number(message, at)
        else:
            at += 8 if kind == 1 else 4


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of varying length, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
