"""A sheet of one frame edited at several strengths, from a trained head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntalker_ns.cli.main import run
from ntalker_ns.data.images import read_picture
from ntalker_ns.editing.filters import sepia
from ntalker_ns.editing.given_frame import rendered_frame
from ntalker_ns.media.contact_sheet import grid
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.runs import load_run
from ntalker_ns.talker_trainer import TalkerTrainer


def test_rows_are_guidance_and_columns_are_steps(
    base: TalkerTrainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config, sheet = base.base_dir / "config.yml", tmp_path / "sheet.png"
    options = ["--guidance", "1", "6", "--steps", "5", "10", "--frame", "5", "--instruction", "sepia"]
    assert run(["edit-preview", "--load-config", f"{config}", "--output", f"{sheet}", *options, "editor:filter"]) == 0
    assert "4 edits of" in capsys.readouterr().out.replace("\n", " ")
    pipeline: Any = load_run(config)
    _, frame = rendered_frame(pipeline.model, 5, pipeline.config.datamanager.dataparser.image_size)
    picture = from_uint8(frame)
    half, full = (to_uint8(sepia(picture, amount, 0)) for amount in (0.5, 1.0))
    rows = [[frame, frame, frame], [frame, half, full]]
    labels = ["unedited", "5 of 10 steps", "10 of 10 steps"]
    expected = grid(rows, ["guidance 1", "guidance 6"], labels, min(320, frame.shape[0]))
    made = read_picture(sheet)
    assert made.shape == expected.shape
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--instruction", "make it fly"], "knows no style"),
        (["--preset", "nobody"], "no preset 'nobody'"),
        (["--instruction", "sepia", "--steps", "0"], "at least 1"),
        (["--instruction", "sepia", "--output", "sheet.txt"], "does not end in .png or .jpg"),
        (["--instruction", "sepia", "--frame", "22"], "no frame 22"),
        (["editor:picture", "--editor.picture", "edited.png"], "its own preview"),
    ],
)
def test_what_cannot_be_previewed_is_said(
    base: TalkerTrainer, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
):
    assert run(["edit-preview", "--load-config", f"{base.base_dir / 'config.yml'}", *options]) == 1
    assert reason in " ".join(capsys.readouterr().err.split())
