"""Pictures of a real head by look, lips and eyes; the choice of their size; a model that is shown lips of a stream."""

from typing import Any

import numpy as np
import pytest
import torch
from support.live_head import SixLips
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns.live.engine import Engine
from ntalker_ns.live.pictures import SIZES, HeadPictures, Speed, fitting_size
from ntalker_ns.live.stage import LiveOptions, Stage

REST = np.zeros(6, np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("live")
    pipeline = tiny_config(write_tiny_clip(folder / "data"), folder).pipeline
    torch.manual_seed(0)
    model = pipeline.setup(device="cpu", test_mode="val").model.eval()
    for table in model.head.field.grid_parameters():
        # Without training nothing depends on anything.
        torch.nn.init.normal_(table, std=5.0)
    return model


def test_lips_eyes_pose_and_background_change_what_is_shown(model: Any):
    clip = model.driving
    stage = Stage(clip)
    pictures = HeadPictures(model, stage, 24)
    still = LiveOptions(pose="still")
    frame = stage.frame(still, 0)
    rest = pictures.render(still, frame, REST, 1.0)
    assert rest.shape == (24, 24, 3) and rest.dtype == np.uint8
    np.testing.assert_array_equal(pictures.render(still, frame, REST, 1.0), rest)
    spoken = pictures.render(still, frame, np.full(6, 3.0, np.float32), 1.0)
    assert (spoken != rest).any()
    turned = pictures.render(LiveOptions(pose="clip"), stage.frame(LiveOptions(pose="clip"), 3), REST, 1.0)
    assert (turned != rest).any()
    coarse = pictures.render(still, frame, REST, 1.0, coarse=True)
    assert coarse.shape == rest.shape and (coarse != rest).any()
    assert np.abs(coarse.astype(float) - rest).mean() < 1.0
    green = pictures.render(LiveOptions(pose="still", background="#00ff00"), frame, REST, 1.0)
    assert green[..., 1].mean() > rest[..., 1].mean() + 1.0
    np.testing.assert_array_equal(pictures.render(still, frame, REST, 1.0), rest)
    model.set_driving(clip)
    assert torch.equal(
        model.predicted_lips(torch.tensor([0])), model.lip_model.lip_shapes(torch.from_numpy(clip.track.features[:1]))
    )


def test_an_engine_of_a_model_sends_its_pictures(model: Any):
    engine = Engine.of_model(model, SixLips, size=16)
    assert engine.speed.size == 16 and engine.speed.rate > 0 and engine.capacity >= 1
    assert not engine.pictures.edited
    assert "16 px: this machine keeps" in str(engine.speed)


@pytest.mark.parametrize(("seconds_at_512", "size"), [(0.01, 512), (0.07, 384), (0.3, 128), (9.0, 128)])
def test_the_largest_size_that_keeps_25_frames_a_second_is_taken(seconds_at_512: float, size: int):
    tried = []

    def speed_at(side: int) -> Speed:
        tried.append(side)
        return Speed(side, 1.0 / (seconds_at_512 * (side / 512) ** 2))

    speed = fitting_size(speed_at)
    assert speed.size == size
    assert tried == list(SIZES[: SIZES.index(size) + 1])
    assert ("fewer than 25" in str(speed)) == (seconds_at_512 > 1)


def test_a_wipe_shows_the_head_before_its_edit_on_the_left(model: Any):
    stage = Stage(model.driving)

    class Black(HeadPictures):
        def __init__(self) -> None:
            """Without a model."""

        def render(
            self, look: LiveOptions, frame: int, lips: np.ndarray, openness: float, coarse: bool = False
        ) -> np.ndarray:
            return np.zeros((40, 40, 3), np.uint8)

    pictures = HeadPictures(model, stage, 40, Black())
    whole = pictures.render(LiveOptions(), 0, REST, 1.0)
    half = pictures.render(LiveOptions(wipe=0.5), 0, REST, 1.0)
    assert whole[:, :20].any() and not half[:, :20].any()
    np.testing.assert_array_equal(half[:, 20:], whole[:, 20:])
