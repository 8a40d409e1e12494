"""preview.png: what tracking and parsing saw, for a person to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.capture import parsing
from ntalker_ns.face import mesh_indices

TILE = 320
LABEL_COLOURS = np.array([[40, 40, 40], [60, 110, 220], [230, 170, 60], [220, 50, 70], [250, 240, 240]], np.uint8)
AXIS_COLOURS = ((230, 60, 60), (60, 200, 60), (80, 120, 255))


@dataclass(frozen=True)
class PreviewFrame:
    """One column of the sheet."""

    index: int
    image: UInt8[np.ndarray, "s s 3"]
    labels: UInt8[np.ndarray, "s s"]
    landmarks: Float[np.ndarray, "478 2"]
    """px"""
    reprojected: Float[np.ndarray, "478 2"]
    """The rigid shape in this frame's pose, px."""
    axes: Float[np.ndarray, "4 2"]
    """The head's centre and the ends of its x, y and z axes, px."""


def draw_preview(
    frames: Sequence[PreviewFrame], plate: UInt8[np.ndarray, "s s 3"], title: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the contact sheet: per frame its landmarks, reprojected shape with head axes, and labels; then the plate.

    Args:
        frames: a few frames of the clip.
        plate: the background plate.
        title: figures to print above.

    Returns:
        An RGB picture.
    """
    columns = [
        np.concatenate(
            [
                _caption(_with_landmarks(f), f"frame {f.index}: landmarks"),
                _caption(_with_shape(f), "rigid shape, head axes"),
                _caption(_with_labels(f), "labels"),
            ]
        )
        for f in frames
    ]
    last = np.full((3 * TILE, TILE, 3), 24, np.uint8)
    last[:TILE] = _caption(_tile(plate), "background plate")
    for k, name in enumerate(parsing.LABEL_NAMES):
        top = TILE + 20 + 34 * k
        last[top : top + 24, 16:56] = LABEL_COLOURS[k]
        _text(last, name, (68, top + 18))
    for k, name in enumerate(("x: to the picture's right", "y: away from the camera", "z: up")):
        top = TILE + 40 + 34 * (k + len(parsing.LABEL_NAMES))
        cv2.line(last, (16, top + 12), (56, top + 12), AXIS_COLOURS[k], 3, cv2.LINE_AA)
        _text(last, name, (68, top + 18))
    sheet = np.concatenate([*columns, last], axis=1)
    header = np.full((40, sheet.shape[1], 3), 24, np.uint8)
    _text(header, title, (12, 27))
    return np.concatenate([header, sheet])


def _with_landmarks(frame: PreviewFrame) -> np.ndarray:
    tile, scale = _tile(frame.image), TILE / frame.image.shape[0]
    for k, point in enumerate(frame.landmarks):
        colour = (60, 255, 80) if k not in _RIGID else (255, 90, 90)
        _dot(tile, point * scale, colour)
    return tile


def _with_shape(frame: PreviewFrame) -> np.ndarray:
    tile, scale = _tile(frame.image), TILE / frame.image.shape[0]
    for point in frame.reprojected:
        _dot(tile, point * scale, (80, 220, 255))
    centre = _fixed(frame.axes[0] * scale)
    for end, colour in zip(frame.axes[1:], AXIS_COLOURS, strict=True):
        cv2.line(tile, centre, _fixed(end * scale), colour, 2, cv2.LINE_AA, shift=4)
    return tile


def _with_labels(frame: PreviewFrame) -> np.ndarray:
    blend = 0.5 * frame.image + 0.5 * LABEL_COLOURS[frame.labels]
    edges = cv2.morphologyEx(frame.labels, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    blend[edges] = 255
    return _tile(blend.astype(np.uint8))


def _tile(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA)


def _caption(tile: np.ndarray, text: str) -> np.ndarray:
    _text(tile, text, (8, TILE - 10))
    return tile


def _text(image: np.ndarray, text: str, at: tuple[int, int]) -> None:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)


def _dot(image: np.ndarray, point: np.ndarray, colour: tuple[int, int, int]) -> None:
    if np.isfinite(point).all():
        cv2.circle(image, _fixed(point), 16, colour, -1, cv2.LINE_AA, shift=4)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.rint((point - 0.5) * 16).astype(int)
    return int(x), int(y)


_RIGID = frozenset(mesh_indices.RIGID.tolist())
