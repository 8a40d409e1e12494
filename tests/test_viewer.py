"""The viewer's elements: found by nerfstudio, and doing what they say."""

from pathlib import Path

import pytest
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement
from support.panel import choose
from torch import nn

from ntalker_ns.rendering.background import Background
from ntalker_ns.viewer import PortraitControls


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def controls(asked: list[str]) -> PortraitControls:
    def set_background(text: str) -> None:
        Background.parse(text)
        asked.append(text)

    return PortraitControls("plate", set_background, asked.append)


def test_the_viewer_finds_the_controls_and_checkpoints_do_not(controls: PortraitControls):
    model = nn.Module()
    model.controls = controls
    names = {name.rpartition("/")[2] for name, _ in parse_object(model, ViewerElement, "model")}
    assert names == {"background", "other_background", "eyes", "openness"}
    assert not controls.state_dict() and not list(controls.parameters())


def test_backgrounds(controls: PortraitControls, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    choose(controls.background, "white")
    choose(controls.background, "other")  # nothing is named yet
    choose(controls.other_background, "#102030")
    assert asked == ["white", "#102030"]
    choose(controls.other_background, str(tmp_path / "none.png"))
    assert asked == ["white", "#102030"]
    assert "neither a file nor a colour" in " ".join(capsys.readouterr().out.split())
    choose(controls.background, "plate")
    assert asked[-1] == "plate"


def test_eyes(controls: PortraitControls, asked: list[str]):
    choose(controls.eyes, "blink")
    choose(controls.eyes, "fixed")
    choose(controls.openness, 0.25)
    choose(controls.eyes, "replay")
    assert asked == ["blink", "1.0", "0.25", "replay"]


def test_the_controls_start_with_the_configured_background(asked: list[str]):
    controls = PortraitControls("#102030", asked.append, asked.append)
    assert (controls.background.default_value, controls.other_background.default_value) == ("other", "#102030")
