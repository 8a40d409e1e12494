"""The model: its outputs, its clock, and what a camera may ask of it, on a tiny head that was not trained."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from synthetic_clip import write_clip

from ntalker_ns.method_configs import ntalker_base_small

SIZE = 48


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = write_clip(tmp_path_factory.mktemp("clip") / "ball", num_frames=22, size=SIZE)
    config = copy.deepcopy(ntalker_base_small.config.pipeline)
    datamanager: Any = config.datamanager
    datamanager.data = datamanager.dataparser.data = Path(data)
    datamanager.rays_per_step = 256
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="val")
    # A head that hears: without training its grids are flat, and nothing depends on anything.
    for table in pipeline.model.field.grid_parameters():
        torch.nn.init.normal_(table)
    return pipeline


def camera(pipeline: Any, frame: int = 0) -> Cameras:
    return pipeline.datamanager.eval_dataset.cameras[frame : frame + 1]


def test_outputs_of_a_camera(pipeline: Any) -> None:
    pipeline.eval()
    outputs = pipeline.model.get_outputs_for_camera(camera(pipeline))
    colours = {"rgb": 3, "head": 3, "torso": 3, "background": 3}
    opacities = dict.fromkeys(("opacity", "head_opacity", "torso_opacity", "background_opacity"), 1)
    channels = colours | opacities | {"depth": 1, "accumulation": 1, "audio_motion": 1}
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        name: (SIZE, SIZE, count) for name, count in channels.items()
    }
    assert all(torch.isfinite(value).all() for value in outputs.values())
    assert outputs["rgb"].min() >= 0 and outputs["rgb"].max() <= 1 + 1e-5
    metrics, images = pipeline.model.get_image_metrics_and_images(outputs, pipeline.datamanager.eval_dataset[0])
    assert set(metrics) == {"psnr", "head_psnr", "face_psnr", "lips_psnr", "ssim"}
    assert images["img"].shape == (SIZE, 2 * SIZE, 3)


@pytest.mark.parametrize("rest", ["field", "clip"])
@pytest.mark.parametrize("background", ["plate", "tomato", "transparent"])
def test_layers_compose_to_the_picture_exactly(pipeline: Any, rest: str, background: str) -> None:
    pipeline.eval()
    pipeline.model.portrait.set_background(background)
    try:
        out = pipeline.model.get_outputs_for_camera(camera(pipeline), rest=rest)
    finally:
        pipeline.model.portrait.set_background("plate")
    under_torso = (1.0 - out["torso_opacity"]) * out["background"]
    assert torch.equal(out["rgb"], out["head"] + (1.0 - out["head_opacity"]) * (out["torso"] + under_torso))
    assert torch.equal(out["accumulation"], out["head_opacity"])
    through = torch.stack([1.0 - out[f"{layer}_opacity"] for layer in ("head", "torso", "background")]).prod(dim=0)
    torch.testing.assert_close(out["opacity"], 1.0 - through)
    if rest == "field":
        assert float(out["background_opacity"].max()) == float(background != "transparent")


def test_the_head_is_the_same_over_any_rest(pipeline: Any) -> None:
    pipeline.eval()
    over = {rest: pipeline.model.get_outputs_for_camera(camera(pipeline), rest=rest) for rest in ("field", "clip")}
    assert torch.equal(over["field"]["head"], over["clip"]["head"])
    truth = pipeline.datamanager.eval_dataset[0]["underlay"]
    torch.testing.assert_close(over["clip"]["torso"], truth, atol=2 / 255, rtol=0)


def test_time_moves_the_mouth_and_not_the_camera(pipeline: Any) -> None:
    pipeline.eval()
    one, two = camera(pipeline), camera(pipeline)
    one.times, two.times = torch.tensor([[0.1]]), torch.tensor([[0.8]])
    first, second = (pipeline.model.get_outputs_for_camera(view, rest="clip") for view in (one, two))
    moved = (first["rgb"] - second["rgb"]).abs().amax(dim=-1)
    assert moved.max() > 1e-3
    # Far above the mouth nothing hears: what differs there is the underlay's, where the head is not opaque.
    assert first["audio_motion"][:8].max() == 0


def test_chosen_eyes_are_shown_and_not_learned(pipeline: Any) -> None:
    model, frames = pipeline.model, torch.tensor([0, 5])
    clip = torch.from_numpy(model.driving.eye_openness)[frames]
    try:
        model.set_eyes("0.25")
        model.eval()
        assert model._conditions(frames, [1, 1]).eye_openness.flatten().tolist() == [0.25, 0.25]
        model.train()
        torch.testing.assert_close(model._conditions(frames, [1, 1]).eye_openness[:, 0], clip)
        model.eval()
        model.set_eyes("replay")
        torch.testing.assert_close(model._conditions(frames, [1, 1]).eye_openness[:, 0], clip)
    finally:
        model.set_driving(model.driving)


def test_appearance_follows_the_pose(pipeline: Any) -> None:
    model = copy.deepcopy(pipeline.model).eval()
    frames = torch.tensor([0, 7, 21])
    poses = torch.from_numpy(model.driving.camera_to_worlds)
    with torch.no_grad():
        # Light as a head's turning to the side would change it, and in frame 7 an accident.
        codes = poses[:, :1, 3] @ torch.tensor([[1.0, -2.0, 0.5, 3.0]])
        model.appearance.weight.copy_(codes)
        model.appearance.weight[7] += 1.0
    shown = model._conditions(frames, [1, 1, 1]).appearance
    torch.testing.assert_close(shown, model.appearance.weight.mean(dim=0).expand(3, -1))
    model.pose_refinement.mark_trained(torch.arange(20))
    shown = model._conditions(frames, [1, 1, 1]).appearance
    assert (shown[1] - codes[7]).abs().max() < 0.7
    spread = codes[:20].std(dim=0)
    torch.testing.assert_close(shown[0] / spread, codes[0] / spread, atol=0.4, rtol=0)


def test_a_time_is_the_nearest_frame(pipeline: Any) -> None:
    last = len(pipeline.model.driving) - 1
    times = torch.tensor([[0.0], [1.0], [0.4 / last], [0.6 / last], [7.0]])
    assert pipeline.model._frames_of_times(times).tolist() == [0, last, 0, 1, last]


def test_any_size_and_no_time(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.eval()
    view = camera(pipeline)
    view.rescale_output_resolution(0.5)
    view.times = None
    outputs = pipeline.model.get_outputs_for_camera(view)
    assert outputs["rgb"].shape == (SIZE // 2, SIZE // 2, 3)
    pipeline.model.get_outputs_for_camera(view)
    assert capsys.readouterr().out.count("no time") == 1


def test_new_audio_drives_the_same_head(pipeline: Any) -> None:
    pipeline.eval()
    model, own = pipeline.model, pipeline.model.driving
    before = {name: value.shape for name, value in model.state_dict().items()}
    track = np.random.default_rng(0).normal(size=(60, *own.features.shape[1:])).astype(np.float32)
    try:
        model.set_driving(own.with_features(track, own.feature_info))
        assert len(model._features) == 60
        assert {name: value.shape for name, value in model.state_dict().items()} == before
        outputs = model.get_outputs_for_camera(camera(pipeline))
        assert torch.isfinite(outputs["rgb"]).all()
    finally:
        model.set_driving(own)


def test_a_step_teaches_every_group(pipeline: Any) -> None:
    pipeline.train()
    model = pipeline.model
    model.pose_refinement.mark_trained(torch.arange(20))
    _, losses, metrics = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameters in model.get_param_groups().items():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters), name
    portrait = {"whole", "rest", "torso_opacity", "torso_codes"}
    assert {"rgb", "mask", "entropy", "lips", "poses", "thickness"} | portrait == set(losses)
    assert float(metrics["samples_per_ray"]) > 0


def test_hearing_is_taught_for_so_many_epochs_and_no_longer(pipeline: Any) -> None:
    pipeline.train()
    model = pipeline.model
    model.pose_refinement.mark_trained(torch.arange(20))
    last = int(model.config.audio_epochs * 20 / model.config.audio_batch)
    try:
        model._step = last - 1
        assert "lips" in pipeline.get_train_loss_dict(0)[1]
        model._step = last + 1
        assert "lips" not in pipeline.get_train_loss_dict(0)[1]
    finally:
        model._step = 0
