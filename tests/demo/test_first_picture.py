"""The demo's early picture."""

from functools import partial
from pathlib import Path

import cv2
import pytest

from ntalker_ns.demo.first_picture import FirstPictureTrainer
from ntalker_ns.runs import method_config, prepare, train_prepared


@pytest.mark.slow
def test_the_first_picture_is_written_during_training(
    processed_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    config = method_config(data=processed_clip, output_dir=tmp_path, max_num_iterations=2)
    prepare(config)
    saved = (config.get_base_dir() / "config.yml").read_text()
    config._target = partial(FirstPictureTrainer, path=tmp_path / "first.png")
    train_prepared(config)
    height, width, _ = cv2.imread(str(tmp_path / "first.png")).shape
    assert width == 2 * height
    assert f"after 2 steps (left: the film): {tmp_path / 'first.png'}" in capsys.readouterr().out
    assert "FirstPictureTrainer" not in saved
