"""Grids show every picture where it belongs, and files appear whole."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.contact_sheet import grid, write_picture


def flat(value: int) -> np.ndarray:
    return np.full((20, 30, 3), value, np.uint8)


def test_each_picture_is_in_its_cell():
    canvas = grid([[flat(10), flat(60)], [flat(120), flat(200)]], ["a", "b"], ["1", "2"], height=40)
    assert canvas.shape[1] == 2 * 60 + 4
    top, step = 22, 44
    centres = [[canvas[top + row * step + 30, column * 64 + 40, 0] for column in (0, 1)] for row in (0, 1)]
    assert centres == [[10, 60], [120, 200]]


def test_a_picture_is_written_in_rgb_and_nothing_is_left_beside_it(tmp_path: Path):
    picture = flat(0)
    picture[..., 0] = 250
    write_picture(tmp_path / "new" / "red.png", picture)
    read = cv2.imread(str(tmp_path / "new" / "red.png"))
    assert read is not None
    np.testing.assert_array_equal(read[0, 0], [0, 0, 250])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["red.png"]


def test_an_unknown_format_is_said(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"\.png or \.jpg"):
        write_picture(tmp_path / "picture.xyz", flat(0))
