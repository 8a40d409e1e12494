"""Pictures of pictures: labelled grids to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import written_whole

_GAP = 4
_TEXT_HEIGHT = 22


def grid(
    rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    height: int,
) -> UInt8[np.ndarray, "grid_h grid_w 3"]:
    """Lays pictures out in rows, each resized to one height, with a word on each row and column.

    Args:
        rows: RGB pictures, equally many in each row and all of one aspect.
        row_labels: written into the corner of each row's first picture.
        column_labels: written above each column.
        height: of each picture, px.
    """
    width = round(rows[0][0].shape[1] * height / rows[0][0].shape[0])
    canvas = np.full(
        (_TEXT_HEIGHT + len(rows) * (height + _GAP), len(rows[0]) * (width + _GAP) - _GAP, 3), 255, np.uint8
    )
    for column, label in enumerate(column_labels):
        _write(canvas, label, column * (width + _GAP) + 4, _TEXT_HEIGHT - 7, (0, 0, 0))
    for row, pictures in enumerate(rows):
        top = _TEXT_HEIGHT + row * (height + _GAP)
        for column, picture in enumerate(pictures):
            left = column * (width + _GAP)
            method = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_CUBIC
            canvas[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=method)
        _write(canvas, row_labels[row], 6, top + 18, (255, 255, 255))
    return canvas


def _write(canvas: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    outline = tuple(255 - value for value in colour)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, outline, 3, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def check_picture_format(path: Path) -> None:
    """
    Raises:
        NTalkerError: a path's ending is of no known format of pictures.
    """
    if not cv2.haveImageWriter(str(path)):
        raise NTalkerError(f"{path} does not end in .png or .jpg: pictures cannot be written in another format.")


def write_picture(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes an RGB picture in one piece, in the format of its ending.

    Raises:
        NTalkerError: the ending is of no known format.
    """
    check_picture_format(path)
    with written_whole(path) as partial:
        cv2.imwrite(str(partial), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
