"""Pictures of a whole head: layers, times, cameras that stand still, new audio; on a head that was not trained."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from support.untrained_head import SIZE, camera, pipeline_config, untrained

from ntalker_ns.rendering.head_renderer import HeadRenderer
from ntalker_ns.training.optimizers import FusedAdamConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipeline_config(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def pipeline(config: Any) -> Any:
    return untrained(config).eval()


def test_outputs_of_a_camera(pipeline: Any) -> None:
    outputs = pipeline.model.get_outputs_for_camera(camera(pipeline))
    colours = {"rgb": 3, "head": 3, "torso": 3, "background": 3}
    opacities = dict.fromkeys(("opacity", "head_opacity", "torso_opacity", "background_opacity"), 1)
    channels = colours | opacities | {"depth": 1, "accumulation": 1, "audio_motion": 1}
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        name: (SIZE, SIZE, count) for name, count in channels.items()
    }
    assert all(torch.isfinite(value).all() for value in outputs.values())
    assert next(iter(outputs)) == "rgb"  # The viewer shows the first.
    assert outputs["rgb"].min() >= 0 and outputs["rgb"].max() <= 1 + 1e-5
    metrics, images = pipeline.model.get_image_metrics_and_images(outputs, pipeline.datamanager.eval_dataset[0])
    assert set(metrics) == {"psnr", "head_psnr", "face_psnr", "lips_psnr", "ssim"}
    assert images["img"].shape == (SIZE, 2 * SIZE, 3)


@pytest.mark.parametrize("surroundings", ["learned", "clip"])
@pytest.mark.parametrize("background", ["plate", "tomato", "transparent"])
def test_layers_compose_to_the_picture_exactly(pipeline: Any, surroundings: str, background: str) -> None:
    pipeline.model.portrait.set_background(background)
    out = pipeline.model.get_outputs_for_camera(camera(pipeline), surroundings=surroundings)
    under_torso = (1.0 - out["torso_opacity"]) * out["background"]
    assert torch.equal(out["rgb"], out["head"] + (1.0 - out["head_opacity"]) * (out["torso"] + under_torso))
    assert torch.equal(out["accumulation"], out["head_opacity"])
    through = torch.stack([1.0 - out[f"{layer}_opacity"] for layer in ("head", "torso", "background")]).prod(dim=0)
    torch.testing.assert_close(out["opacity"], 1.0 - through)
    if surroundings == "learned":
        assert float(out["background_opacity"].max()) == float(background != "transparent")


@pytest.mark.parametrize(("kind", "decibels"), [(torch.float16, 60.0), (torch.bfloat16, 40.0)])
def test_pictures_in_half_precision(pipeline: Any, kind: torch.dtype, decibels: float) -> None:
    model = pipeline.model
    exact = model.get_outputs_for_camera(camera(pipeline))
    model.head.field.picture_type = kind
    # What a camera that stands still is shown must not be what was rendered before.
    found = [model.get_outputs_for_camera(camera(pipeline)) for _ in range(3)]
    on_head = exact["accumulation"].squeeze(-1) > 0
    for each in found:
        assert all(values.dtype == torch.float32 for values in each.values())
        error = (each["rgb"] - exact["rgb"])[on_head].square().mean()
        assert 0 < error < 10 ** (-decibels / 10)


def test_the_head_does_not_depend_on_the_surroundings(pipeline: Any) -> None:
    over = {
        surroundings: pipeline.model.get_outputs_for_camera(camera(pipeline), surroundings=surroundings)
        for surroundings in ("learned", "clip")
    }
    assert torch.equal(over["learned"]["head"], over["clip"]["head"])
    truth = pipeline.datamanager.eval_dataset[0]["headless_frame"]
    torch.testing.assert_close(over["clip"]["torso"], truth, atol=2 / 255, rtol=0)


def test_time_moves_the_mouth_and_not_the_camera(pipeline: Any) -> None:
    one, two = camera(pipeline), camera(pipeline)
    one.times, two.times = torch.tensor([[0.1]]), torch.tensor([[0.8]])
    first, second = (pipeline.model.get_outputs_for_camera(view, surroundings="clip") for view in (one, two))
    moved = (first["rgb"] - second["rgb"]).abs().amax(dim=-1)
    assert moved.max() > 1e-3
    # Far above the mouth speech has no effect; there the headless frames differ, where the head is not opaque.
    assert first["audio_motion"][:8].max() == 0


def test_a_static_camera_shows_what_a_new_one_would(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pipeline.model
    rendered: list[int] = []
    render = HeadRenderer.picture

    def picture(renderer: HeadRenderer, rays: Any, *given: Any) -> Any:
        rendered.append(len(rays))
        return render(renderer, rays, *given)

    monkeypatch.setattr(HeadRenderer, "picture", picture)
    new = copy.deepcopy(model)
    for time in (0.1, 0.4, 0.8, 0.3):
        view = camera(pipeline)
        view.times = torch.tensor([[time]])
        expected = copy.deepcopy(new).get_outputs_for_camera(view)
        for name, values in model.get_outputs_for_camera(view).items():
            torch.testing.assert_close(values, expected[name], atol=1e-5, rtol=0, msg=name)
    everything = SIZE * SIZE
    by_new_ones, by_one = rendered[::2], rendered[1::2]
    assert by_new_ones == [everything] * 4 and by_one[:2] == [everything] * 2
    # Speech, brows and blinks act on some of the made-up head, and on none of what is around it.
    assert 0 < by_one[2] == by_one[3] < 0.8 * everything


def test_a_static_camera_is_rendered_again_after_training(pipeline: Any) -> None:
    model, table = pipeline.model, pipeline.model.head.field.space_grid.table
    before = [model.get_outputs_for_camera(camera(pipeline))["rgb"] for _ in range(3)]
    torch.testing.assert_close(before[2], before[0], atol=1e-5, rtol=0)
    table.grad = torch.ones_like(table)
    FusedAdamConfig(lr=0.5).setup([table]).step()
    assert (model.get_outputs_for_camera(camera(pipeline))["rgb"] - before[0]).abs().max() > 1e-3


def test_any_size_and_no_time(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    view = camera(pipeline)
    view.rescale_output_resolution(0.5)
    view.times = None
    outputs = pipeline.model.get_outputs_for_camera(view)
    assert outputs["rgb"].shape == (SIZE // 2, SIZE // 2, 3)
    pipeline.model.get_outputs_for_camera(view)
    assert capsys.readouterr().out.count("no time") == 1


def test_new_audio_drives_the_same_head(pipeline: Any) -> None:
    model, own = pipeline.model, pipeline.model.driving
    before = {name: value.shape for name, value in model.state_dict().items()}
    track = np.random.default_rng(0).normal(size=(60, *own.track.features.shape[1:])).astype(np.float32)
    model.set_driving(own.with_features(track))
    assert model.frames_of_times(torch.ones(1, 1)).tolist() == [59]
    assert {name: value.shape for name, value in model.state_dict().items()} == before
    outputs = model.get_outputs_for_camera(camera(pipeline))
    assert torch.isfinite(outputs["rgb"]).all()
