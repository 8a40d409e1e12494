"""Edits that pages ask for: what is refused, and that nothing of a request becomes another option or a path."""

from pathlib import Path
from typing import Any

import pytest
import tyro

from ntalker_ns.editing.edit_process import OFFERED, EditBase, EditProcess, EditRequest
from ntalker_ns.errors import NTalkerError
from ntalker_ns.method_configs import ntalker_edit_small


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ([], "An edit has"),
        ({"instruction": "sepia", "picture": "/etc/passwd"}, "An edit has"),
        ({"instruction": "sepia", "output_dir": "/tmp"}, "An edit has"),
        ({"instruction": "sepia", "editor": "diffusers"}, "The editors are"),
        ({"instruction": "sepia", "editor": "../x"}, "The editors are"),
        ({"preset": "/etc/passwd.yaml"}, "The presets are"),
        ({"instruction": "x" * 301}, "up to 300"),
        ({"instruction": 7}, "instruction cannot be 7"),
        ({}, "There is no instruction"),
        ({"instruction": "make it fly"}, "style"),
        ({"instruction": "sepia", "updates": 0}, "updates is"),
        ({"instruction": "sepia", "updates": None}, "updates cannot be"),
        ({"instruction": "sepia", "frames": True}, "frames cannot be"),
        ({"instruction": "sepia", "epochs": 2.5}, "epochs cannot be"),
        ({"instruction": "sepia", "guidance": [6, 3]}, "must rise"),
        ({"instruction": "sepia", "guidance": ["--help", 3]}, "two numbers"),
        ({"instruction": "sepia", "steps": [1.5, 3]}, "two numbers"),
        ({"editor": "picture"}, "needs a picture"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(wanted: Any, reason: str):
    with pytest.raises(NTalkerError, match=reason):
        EditRequest.of(wanted)


@pytest.mark.parametrize(
    "instruction", ["Make it sepia", "--base=/etc/passwd sepia", "-h sepia", "sepia; rm -rf ~", "sepia\n--edit.seed 3"]
)
def test_the_command_line_means_what_was_asked(instruction: str):
    asked = {"instruction": instruction, "updates": 2, "frames": 5, "epochs": 3, "guidance": [2, 4.5], "steps": [3, 7]}
    arguments = EditRequest.of(asked).arguments(Path("/nowhere"))
    parsed: Any = tyro.cli(type(ntalker_edit_small.config), default=ntalker_edit_small.config, args=arguments)
    assert (parsed.instruction, parsed.base, parsed.edit.seed) == (instruction, None, 0)
    assert (parsed.edit.updates, parsed.edit.num_frames, parsed.edit.epochs) == (2, 5, 3)
    assert (parsed.edit.guidance, parsed.edit.steps) == ((2.0, 4.5), (3, 7))
    assert type(parsed.editor).__name__ == "FilterEditorConfig"


def test_presets_and_pictures():
    request = EditRequest.of({"preset": "bronze-statue"})
    assert "bronze" in request.words
    assert "--preset=bronze-statue" in request.arguments(Path("/nowhere"))
    request = EditRequest.of({"editor": "picture"}, b"a picture")
    assert request.arguments(Path("/here/picture.png"))[-2:] == ["editor:picture", "--editor.picture=/here/picture.png"]
    assert set(OFFERED) == {"filter", "style", "picture", "ip2p"}


def test_an_edit_that_fails_says_why(tmp_path: Path):
    base = EditBase(tmp_path / "none.ckpt", "ntalker-edit-small", tmp_path / "outputs", "anna")
    process = EditProcess(base, EditRequest.of({"instruction": "sepia"}))
    process._process.wait(120)
    assert not process.running and process.config is None
    assert process.failure() == f"There is no checkpoint {tmp_path / 'none.ckpt'}: check --base."
    process.stop()
    assert not process.stopped and not (tmp_path / "outputs").exists()
