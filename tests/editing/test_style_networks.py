"""The networks of painting styles, and the paintings that come with the package."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ntalker_ns.data.images import read_picture
from ntalker_ns.editing.style_networks import PAINTERS, Painter, painter_in, repaint
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.pixels import from_uint8


def face(height: int, width: int) -> np.ndarray:
    """An ellipse with eyes and a mouth before a wall."""
    picture = np.full((128, 128, 3), (0.3, 0.5, 0.7), np.float32)
    cv2.ellipse(picture, (64, 64), (36, 48), 0, 0, 360, (0.85, 0.65, 0.55), -1)
    for x in (50, 78):
        cv2.circle(picture, (x, 54), 5, (0.1, 0.1, 0.1), -1)
    cv2.ellipse(picture, (64, 90), (14, 4), 0, 0, 360, (0.6, 0.1, 0.1), -1)
    return np.clip(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), 0.0, 1.0)


@pytest.mark.parametrize("name", PAINTERS)
def test_a_painters_colours_and_the_pictures_edges(name: str):
    picture = face(96, 96)
    painted = repaint(picture, PAINTERS[name].style)
    assert painted.shape == picture.shape and painted.dtype == np.float32
    assert painted.min() >= 0.0 and painted.max() <= 1.0
    assert np.abs(painted - picture).mean() > 0.05
    style = PAINTERS[name].style
    if isinstance(style, Path):
        colours = from_uint8(read_picture(style)).reshape(-1, 3).mean(axis=0)
        assert np.linalg.norm(painted.reshape(-1, 3).mean(axis=0) - colours) < np.linalg.norm(
            picture.reshape(-1, 3).mean(axis=0) - colours
        )
    # What was dark stays darker than what is around it.
    grey = painted.mean(axis=-1)
    assert grey[38:43, 35:40].mean() < grey[60:64, 42:54].mean() - 0.05


def test_any_size_and_the_same_strokes_at_each():
    small, large = repaint(face(64, 48), 19), repaint(face(256, 192), 19)
    assert small.shape == (64, 48, 3)
    reduced = cv2.resize(large, (48, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - small).mean() < 0.6 * np.abs(face(64, 48) - small).mean()
    wide = repaint(face(48, 64), PAINTERS["hokusai"].style)
    assert wide.shape == (48, 64, 3)


def test_the_painter_that_an_instruction_names():
    assert painter_in("Make him look like Van Gogh") == "van-gogh"
    assert painter_in("an EDVARD MUNCH painting") == "munch"
    assert painter_in("Turn him into a Modigliani painting") is None
    assert painter_in("munching") == "munch" and painter_in("crunch") is None


def test_paintings_are_small_and_have_a_card():
    for painter in PAINTERS.values():
        if isinstance(painter.style, Path):
            card = (painter.style.parent / "paintings.md").read_text("utf8")
            assert painter.style.name in card
            assert painter.style.stat().st_size < 80_000
            assert max(read_picture(painter.style).shape) <= 512


def test_an_unreadable_painting_is_said(tmp_path: Path):
    broken = tmp_path / "painting.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(NTalkerError, match=r"painting\.jpg cannot be decoded"):
        repaint(face(32, 32), Painter("somebody", broken).style)
