"""A head over a picture that moves, over a background: one pass over the pixels of a video frame."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ntalker_ns.kernels.numba.common import lean
from ntalker_ns.kernels.numba.workers import in_threads, piecewise, take
from ntalker_ns.kernels.types import MovingPicture

ROWS = 8
"""Rows that a thread takes at a time."""

OPAQUE = np.float32(1.0 - 1.0 / 512.0)
"""Opacity of the head above which no level of a pixel depends on what is behind it."""

_ZERO, _HALF, _ONE, _LEVELS = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(255.0)


def accepts_moved_picture(picture: MovingPicture) -> bool:
    """float32."""
    return picture.texture.dtype == picture.shifts.dtype == torch.float32


def accepts_portrait_frame(head: Tensor, *_: Any) -> bool:
    """float32."""
    return head.dtype == torch.float32


def moved_picture(picture: MovingPicture) -> Float[Tensor, "height width 4"]:
    """See `kernels.reference.portrait.moved_picture`."""
    found = np.empty((len(picture.y), len(picture.x), 4), np.float32)
    in_threads(_move, *_arrays(picture), found)
    return torch.from_numpy(found)


def portrait_frame(
    head: Float[Tensor, "height width 3"],
    opacity: Float[Tensor, "height width"],
    picture: MovingPicture,
    background: Float[Tensor, "height width 3"],
) -> UInt8[Tensor, "height width 3"]:
    """See `kernels.reference.portrait.portrait_frame`."""
    found = np.empty((*opacity.shape, 3), np.uint8)
    layers = (each.detach().contiguous().numpy() for each in (head, opacity, background))
    in_threads(_compose, *_arrays(picture), *layers, found)
    return torch.from_numpy(found)


def _arrays(picture: MovingPicture) -> tuple[Any, ...]:
    columns, rows = (each.detach().clamp(0.0, 1.0).float().numpy() for each in (picture.x, picture.y))
    texture, shifts = (each.detach().contiguous().numpy() for each in (picture.texture, picture.shifts))
    return texture, shifts, columns, rows, np.float32(picture.margin)


@lean
def _between(place, last):
    """The node before a place in units of nodes, and how far behind it the place lies."""
    inside = min(max(place, _ZERO), np.float32(last))
    node = min(np.int32(inside), max(last - 1, 0))
    return node, inside - np.float32(node)


@lean
def _corners(values, column, right, row, down, channel):
    """Bilinear between four nodes."""
    next_column, next_row = min(column + 1, values.shape[1] - 1), min(row + 1, values.shape[0] - 1)
    upper = values[row, column, channel] * (_ONE - right) + values[row, next_column, channel] * right
    lower = values[next_row, column, channel] * (_ONE - right) + values[next_row, next_column, channel] * right
    return upper * (_ONE - down) + lower * down


@lean
def _source(texture, shifts, x, y, margin):
    """Column and row of the texture, and the parts behind them, that a place shows."""
    column, right = _between(x * np.float32(shifts.shape[1] - 1), shifts.shape[1] - 1)
    row, down = _between(y * np.float32(shifts.shape[0] - 1), shifts.shape[0] - 1)
    scale = _ONE / (_ONE + np.float32(2.0) * margin)
    u = (x + _corners(shifts, column, right, row, down, 0) + margin) * scale
    v = (y + _corners(shifts, column, right, row, down, 1) + margin) * scale
    column, right = _between(u * np.float32(texture.shape[1]) - _HALF, texture.shape[1] - 1)
    row, down = _between(v * np.float32(texture.shape[0]) - _HALF, texture.shape[0] - 1)
    return column, right, row, down


@piecewise
def _move(texture, shifts, columns, rows, margin, found, counter):
    """Writes the picture as it is seen."""
    while True:
        first = take(counter) * ROWS
        if first >= len(rows):
            break
        for i in range(first, min(first + ROWS, len(rows))):
            for j in range(len(columns)):
                column, right, row, down = _source(texture, shifts, columns[j], rows[i], margin)
                for channel in range(4):
                    found[i, j, channel] = _corners(texture, column, right, row, down, channel)


@piecewise
def _compose(texture, shifts, columns, rows, margin, head, opacity, background, found, counter):
    """Writes the pixels of a frame."""
    while True:
        first = take(counter) * ROWS
        if first >= len(rows):
            break
        for i in range(first, min(first + ROWS, len(rows))):
            for j in range(len(columns)):
                passed, covered = _ONE - opacity[i, j], _ZERO
                column, right, row, down = np.int32(0), _ZERO, np.int32(0), _ZERO
                seen = opacity[i, j] < OPAQUE
                if seen:
                    column, right, row, down = _source(texture, shifts, columns[j], rows[i], margin)
                    covered = _corners(texture, column, right, row, down, 3)
                for channel in range(3):
                    value = head[i, j, channel]
                    if seen:
                        around = _corners(texture, column, right, row, down, channel)
                        value += passed * (around + (_ONE - covered) * background[i, j, channel])
                    value = min(max(value, _ZERO), _ONE)
                    found[i, j, channel] = np.uint8(value * _LEVELS + _HALF)
