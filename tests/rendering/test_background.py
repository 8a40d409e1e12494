"""What is behind the person: what a user may ask for, and the plate with what is learned on top of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ntalker_ns.errors import NTalkerError
from ntalker_ns.rendering.background import Background, LearnedBackground


def test_backgrounds_are_parsed(tmp_path: Path):
    assert Background.parse("plate").kind == "plate"
    assert Background.parse("transparent").kind == "transparent"
    assert Background.parse("#3366ff").colour == pytest.approx((0.2, 0.4, 1.0))
    assert Background.parse("Lime").colour == (0.0, 1.0, 0.0)
    cv2.imwrite(str(tmp_path / "beach.png"), np.full((5, 9, 3), (10, 20, 200), np.uint8))
    picture = Background.parse(str(tmp_path / "beach.png")).picture
    assert picture is not None and picture.shape == (5, 9, 3) and picture[0, 0].tolist() == [200, 20, 10]


@pytest.mark.parametrize("text", ["beach.png", "#12", "greenish", ""])
def test_unknown_backgrounds_are_refused(text: str):
    with pytest.raises(NTalkerError, match="neither a file nor a colour"):
        Background.parse(text)


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path):
    (tmp_path / "beach.png").write_text("sand")
    with pytest.raises(NTalkerError, match="cannot be decoded"):
        Background.parse(str(tmp_path / "beach.png"))


def test_it_starts_as_the_plate_and_learns_where_it_is_sampled():
    background = LearnedBackground((8, 4))
    places = torch.tensor([[0.5 / 8, 0.5 / 4], [3.5 / 8, 2.5 / 4]])
    plate = torch.rand(2, 3)
    assert torch.equal(background(places, plate), plate)
    background(places, plate).sum().backward()
    expected = torch.zeros(3, 4, 8)
    expected[:, 0, 0] = expected[:, 2, 3] = 1.0
    fine, coarse = background.added
    torch.testing.assert_close(fine.grad, expected, atol=1e-5, rtol=0)
    # At 0.0625 of the width and beyond the border of 2 px; at 0.4375, 3/8 of the way from the first to the second.
    torch.testing.assert_close(coarse.grad, torch.tensor([1.625, 0.375]).expand(3, 1, 2), atol=1e-5, rtol=0)


def test_levels_get_coarser_down_to_a_few_pixels():
    sizes = [tuple(added.shape) for added in LearnedBackground((256, 144)).added]
    assert sizes == [(3, 144, 256), (3, 36, 64), (3, 9, 16), (3, 2, 4), (3, 1, 1)]
