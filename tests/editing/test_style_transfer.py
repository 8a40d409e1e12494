"""The editor of painting styles."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ntalker_ns.editing import style_transfer
from ntalker_ns.editing.editor import Editor
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.style_networks import PAINTERS
from ntalker_ns.editing.style_transfer import StyleEditor, StyleEditorConfig
from ntalker_ns.errors import NTalkerError

FULL = Strength(6.0, 20, 20)


@pytest.fixture()
def inverted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The networks invert pictures; the styles that were asked of them."""
    asked: list[object] = []

    def repaint(picture: np.ndarray, style: object) -> np.ndarray:
        asked.append(style)
        return 1.0 - picture

    monkeypatch.setattr(style_transfer, "repaint", repaint)
    return asked


def test_the_amount_follows_guidance_and_steps(inverted: list[object]):
    frames = torch.full((2, 3, 16, 18), 0.2)
    editor = StyleEditor(StyleEditorConfig(style=3))
    assert isinstance(editor, Editor)
    full = editor.edit(frames, "", FULL, [0, 0])
    torch.testing.assert_close(full, torch.full_like(frames, 0.8))
    half = editor.edit(frames, "", Strength(6.0, 10, 20), [0, 0])
    torch.testing.assert_close(half, torch.full_like(frames, 0.5))
    conditioned = editor.edit(frames, "", FULL, [0, 0], torch.full_like(frames, 0.6))
    torch.testing.assert_close(conditioned, torch.full_like(frames, 0.4))
    assert set(inverted) == {3}


def test_which_style_is_taken(inverted: list[object], tmp_path: Path):
    painting = tmp_path / "painting.jpg"
    for config, instruction, expected in (
        (StyleEditorConfig(), "", PAINTERS["van-gogh"].style),
        (StyleEditorConfig(), "as Renoir would", PAINTERS["renoir"].style),
        (StyleEditorConfig(style="munch"), "as Renoir would", 5),
        (StyleEditorConfig(style=19), "as Renoir would", 19),
        (StyleEditorConfig(style=19, style_picture=painting), "as Renoir would", painting),
    ):
        StyleEditor(config).edit(torch.zeros(1, 3, 8, 8), instruction, FULL, [0])
        assert inverted[-1] == expected
    assert "the style of renoir" in StyleEditorConfig().describe("as Renoir would")
    assert "style 19" in StyleEditorConfig(style=19).default_instruction()


@pytest.mark.usefixtures("inverted")
def test_colours_can_be_kept():
    frame = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    kept = StyleEditor(StyleEditorConfig(preserve_colour=True)).edit(frame, "", FULL, [0])

    def chroma(picture: torch.Tensor) -> np.ndarray:
        return cv2.cvtColor(picture[0].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2YCrCb)

    np.testing.assert_allclose(chroma(kept)[..., 1:], chroma(frame)[..., 1:], atol=0.01)
    np.testing.assert_allclose(chroma(kept)[..., 0], 1.0 - chroma(frame)[..., 0], atol=0.01)


def test_what_there_is_not_is_said(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no picture at"):
        StyleEditorConfig(style_picture=tmp_path / "painting.jpg").check("")
    with pytest.raises(NTalkerError, match="styles 0 to 25"):
        StyleEditorConfig(style=26).check("")
    StyleEditorConfig(style="hokusai").check("")
