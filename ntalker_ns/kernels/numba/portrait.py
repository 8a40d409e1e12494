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
def _corner(place, last):
    """The node before a place in units of nodes, and how far behind it the place lies."""
    inside = min(max(place, _ZERO), np.float32(last))
    node = min(np.int32(inside), max(last - 1, 0))
    return node, inside - np.float32(node)


@lean
def _sources(texture, shifts, columns, y, margin, found):
    """Writes the columns and rows of the texture, with fractions, that a row of pixels shows: (2, width)."""
    row, down = _corner(y * np.float32(shifts.shape[0] - 1), shifts.shape[0] - 1)
    below = min(row + 1, shifts.shape[0] - 1)
    last = shifts.shape[1] - 1
    scale = _ONE / (_ONE + np.float32(2.0) * margin)
    for j in range(len(columns)):
        left, right = _corner(columns[j] * np.float32(last), last)
        after = min(left + 1, last)
        for axis in range(2):
            upper = shifts[row, left, axis] * (_ONE - right) + shifts[row, after, axis] * right
            lower = shifts[below, left, axis] * (_ONE - right) + shifts[below, after, axis] * right
            place = columns[j] if axis == 0 else y
            place = (place + upper * (_ONE - down) + lower * down + margin) * scale
            found[axis, j] = place * np.float32(texture.shape[1 - axis]) - _HALF


@lean
def _look_up(texture, u, v, found):
    """Writes the texture's four channels at a place, bilinear."""
    column, right = _corner(u, texture.shape[1] - 1)
    row, down = _corner(v, texture.shape[0] - 1)
    after, below = min(column + 1, texture.shape[1] - 1), min(row + 1, texture.shape[0] - 1)
    one, two = (_ONE - right) * (_ONE - down), right * (_ONE - down)
    three, four = (_ONE - right) * down, right * down
    for channel in range(4):
        found[channel] = (
            one * texture[row, column, channel]
            + two * texture[row, after, channel]
            + three * texture[below, column, channel]
            + four * texture[below, after, channel]
        )


@piecewise
def _move(texture, shifts, columns, rows, margin, found, counter):
    """Writes the picture as it is seen."""
    sources = np.empty((2, len(columns)), np.float32)
    while True:
        first = take(counter) * ROWS
        if first >= len(rows):
            break
        for i in range(first, min(first + ROWS, len(rows))):
            _sources(texture, shifts, columns, rows[i], margin, sources)
            for j in range(len(columns)):
                _look_up(texture, sources[0, j], sources[1, j], found[i, j])


@piecewise
def _compose(texture, shifts, columns, rows, margin, head, opacity, background, found, counter):
    """Writes the pixels of a frame."""
    sources, seen = np.empty((2, len(columns)), np.float32), np.empty(4, np.float32)
    while True:
        first = take(counter) * ROWS
        if first >= len(rows):
            break
        for i in range(first, min(first + ROWS, len(rows))):
            _sources(texture, shifts, columns, rows[i], margin, sources)
            for j in range(len(columns)):
                passed = _ONE - opacity[i, j]
                seen[:] = _ZERO
                if opacity[i, j] < OPAQUE:
                    _look_up(texture, sources[0, j], sources[1, j], seen)
                through = passed * (_ONE - seen[3])
                for channel in range(3):
                    value = head[i, j, channel] + passed * seen[channel] + through * background[i, j, channel]
                    value = min(max(value, _ZERO), _ONE)
                    found[i, j, channel] = np.uint8(value * _LEVELS + _HALF)
