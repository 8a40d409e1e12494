"""The model: its outputs, its clock, and what a camera may ask of it, on a tiny head that was not trained."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer
from support.synthetic_clip import write_clip

from ntalker_ns import talker_model, talker_trainer
from ntalker_ns.data.training_rays import StepInputs, TrainingRays
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.kernels.types import FieldOutputs
from ntalker_ns.method_configs import ntalker_base_small
from ntalker_ns.rendering import field_head
from ntalker_ns.rendering.losses import STEP, FaceSurface, StepOutputs, occlusion_prior, surface_loss
from ntalker_ns.rendering.static_cache import StaticCameraCache
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.training import transfers
from ntalker_ns.training.optimizers import FusedAdamConfig
from ntalker_ns.training.step_budget import StepSizes

SIZE = 48


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = write_clip(tmp_path_factory.mktemp("clip") / "ball", num_frames=22, size=SIZE)
    config = copy.deepcopy(ntalker_base_small.config.pipeline)
    datamanager: Any = config.datamanager
    datamanager.data = datamanager.dataparser.data = Path(data)
    datamanager.rays_per_step = 256
    # All that a step may do, in every step.
    model: Any = config.model
    datamanager.surroundings_interval = model.occlusion_interval = 1
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="val")
    # A head that hears: without training its grids are flat, and nothing depends on anything.
    for table in pipeline.model.head.field.grid_parameters():
        torch.nn.init.normal_(table)
    return pipeline


def camera(pipeline: Any, frame: int = 0) -> Cameras:
    return pipeline.datamanager.eval_dataset.cameras[frame : frame + 1]


def test_pictures_and_steps_limit_their_threads(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[str] = []
    monkeypatch.setattr(talker_model, "limit_threads", lambda device: shared.append(device) or nullcontext())
    monkeypatch.setattr(talker_trainer, "limit_threads", lambda device: shared.append(device) or nullcontext())
    monkeypatch.setattr(Trainer, "train_iteration", lambda self, step: step)
    pipeline.eval()
    pipeline.model.get_outputs_for_camera(camera(pipeline))
    assert shared == ["cpu"]
    trainer = talker_trainer.TalkerTrainer.__new__(talker_trainer.TalkerTrainer)
    trainer.device = "cuda:1"
    assert trainer.train_iteration(7) == 7
    assert shared == ["cpu", "cuda"]


@pytest.mark.parametrize(("share", "levels"), [(0.5, [4, 6, 8, 8]), (0.0, [8, 8, 8, 8])])
def test_finer_levels_are_enabled_over_a_fraction_of_the_training(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, share: float, levels: list[int]
) -> None:
    model = pipeline.model
    monkeypatch.setattr(model.config, "coarse_fraction", share)
    monkeypatch.setattr(model, "_fit_to_clip", lambda dataset: None)
    # Put back for the tests that follow.
    monkeypatch.setattr(model.head.field, "active_levels", model.head.field.active_levels)
    trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=40))
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=trainer)
    before = model.get_training_callbacks(attributes)[0]
    found = []
    for step in (0, 10, 20, 39):
        before.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        found.append(model.head.field.active_levels)
    assert found == levels


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
    assert next(iter(outputs)) == "rgb"  # The viewer shows the first.
    assert outputs["rgb"].min() >= 0 and outputs["rgb"].max() <= 1 + 1e-5
    metrics, images = pipeline.model.get_image_metrics_and_images(outputs, pipeline.datamanager.eval_dataset[0])
    assert set(metrics) == {"psnr", "head_psnr", "face_psnr", "lips_psnr", "ssim"}
    assert images["img"].shape == (SIZE, 2 * SIZE, 3)


@pytest.mark.parametrize("surroundings", ["learned", "clip"])
@pytest.mark.parametrize("background", ["plate", "tomato", "transparent"])
def test_layers_compose_to_the_picture_exactly(pipeline: Any, surroundings: str, background: str) -> None:
    pipeline.eval()
    pipeline.model.portrait.set_background(background)
    try:
        out = pipeline.model.get_outputs_for_camera(camera(pipeline), surroundings=surroundings)
    finally:
        pipeline.model.portrait.set_background("plate")
    under_torso = (1.0 - out["torso_opacity"]) * out["background"]
    assert torch.equal(out["rgb"], out["head"] + (1.0 - out["head_opacity"]) * (out["torso"] + under_torso))
    assert torch.equal(out["accumulation"], out["head_opacity"])
    through = torch.stack([1.0 - out[f"{layer}_opacity"] for layer in ("head", "torso", "background")]).prod(dim=0)
    torch.testing.assert_close(out["opacity"], 1.0 - through)
    if surroundings == "learned":
        assert float(out["background_opacity"].max()) == float(background != "transparent")


@pytest.mark.parametrize(("kind", "decibels"), [(torch.float16, 60.0), (torch.bfloat16, 40.0)])
def test_pictures_in_half_precision(pipeline: Any, kind: torch.dtype, decibels: float) -> None:
    pipeline.eval()
    model = pipeline.model
    exact = model.get_outputs_for_camera(camera(pipeline))
    try:
        model.head.field.picture_type = kind
        # Whose camera stands still must not be shown what was rendered before.
        found = [model.get_outputs_for_camera(camera(pipeline)) for _ in range(3)]
    finally:
        model.head.field.picture_type = None
    on_head = exact["accumulation"].squeeze(-1) > 0
    for each in found:
        assert all(values.dtype == torch.float32 for values in each.values())
        error = (each["rgb"] - exact["rgb"])[on_head].square().mean()
        assert 0 < error < 10 ** (-decibels / 10)


def test_the_head_does_not_depend_on_the_surroundings(pipeline: Any) -> None:
    pipeline.eval()
    over = {
        surroundings: pipeline.model.get_outputs_for_camera(camera(pipeline), surroundings=surroundings)
        for surroundings in ("learned", "clip")
    }
    assert torch.equal(over["learned"]["head"], over["clip"]["head"])
    truth = pipeline.datamanager.eval_dataset[0]["headless_frame"]
    torch.testing.assert_close(over["clip"]["torso"], truth, atol=2 / 255, rtol=0)


def test_time_moves_the_mouth_and_not_the_camera(pipeline: Any) -> None:
    pipeline.eval()
    one, two = camera(pipeline), camera(pipeline)
    one.times, two.times = torch.tensor([[0.1]]), torch.tensor([[0.8]])
    first, second = (pipeline.model.get_outputs_for_camera(view, surroundings="clip") for view in (one, two))
    moved = (first["rgb"] - second["rgb"]).abs().amax(dim=-1)
    assert moved.max() > 1e-3
    # Far above the mouth nothing hears: what differs there is the headless_frame's, where the head is not opaque.
    assert first["audio_motion"][:8].max() == 0


def test_a_static_camera_shows_what_a_new_one_would(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pipeline.model
    model.eval()
    asked: list[int] = []
    render = model.head.renderer.picture
    monkeypatch.setattr(
        model.head.renderer, "picture", lambda rays, *args: asked.append(len(rays)) or render(rays, *args)
    )
    times = (0.1, 0.4, 0.8, 0.3)

    def shots(fresh: bool) -> list[dict[str, torch.Tensor]]:
        model.head.static_camera = StaticCameraCache()
        found = []
        for time in times:
            view = camera(pipeline)
            view.times = torch.tensor([[time]])
            if fresh:
                model.head.static_camera = StaticCameraCache()
            found.append(model.get_outputs_for_camera(view))
        return found

    for kept, fresh in zip(shots(fresh=False), shots(fresh=True), strict=True):
        for name, values in fresh.items():
            torch.testing.assert_close(kept[name], values, atol=1e-5, rtol=0, msg=name)
    everything = SIZE * SIZE
    assert asked[:2] == [everything] * 2 and asked[4:] == [everything] * 4
    # Speech, brows and blinks act on some of the made-up head, and on none of what is around it.
    assert 0 < asked[2] == asked[3] < 0.8 * everything


def test_a_static_camera_is_rendered_again_after_training(pipeline: Any) -> None:
    model, table = pipeline.model, pipeline.model.head.field.space_grid.table
    model.eval()
    before = [model.get_outputs_for_camera(camera(pipeline))["rgb"] for _ in range(3)]
    torch.testing.assert_close(before[2], before[0], atol=1e-5, rtol=0)
    learned = table.detach().clone()
    try:
        table.grad = torch.ones_like(table)
        FusedAdamConfig(lr=0.5).setup([table]).step()
        assert (model.get_outputs_for_camera(camera(pipeline))["rgb"] - before[0]).abs().max() > 1e-3
    finally:
        table.grad = None
        with torch.no_grad():
            table.copy_(learned)


def test_light_follows_the_camera_and_not_the_clip(pipeline: Any) -> None:
    model = pipeline.model
    model.eval()
    poses = torch.from_numpy(model.driving.track.camera_to_worlds)
    trained = model.pose_refinement.trained
    kept = trained.clone(), model.head.appearance.weight.detach().clone()
    try:
        model.pose_refinement.mark_trained(torch.arange(len(trained)))
        with torch.no_grad():
            model.head.appearance.weight.copy_(poses[:, :1, 3] * torch.ones(1, model.head.appearance.weight.shape[1]))
        codes = model._conditions(torch.tensor([2, 9]), poses[[5, 5]]).appearance
        torch.testing.assert_close(codes[0], codes[1])
        torch.testing.assert_close(codes[:1], model._conditions(torch.tensor([5])).appearance)
    finally:
        model.pose_refinement.trained.copy_(kept[0])
        with torch.no_grad():
            model.head.appearance.weight.copy_(kept[1])


def test_chosen_eyes_apply_to_rendering_only(pipeline: Any) -> None:
    model, frames = pipeline.model, torch.tensor([0, 5])
    clip = torch.from_numpy(model.driving.track.eye_openness)[frames]
    try:
        model.set_eyes("0.25")
        model.eval()
        assert model._conditions(frames).eye_openness.flatten().tolist() == [0.25, 0.25]
        model.train()
        torch.testing.assert_close(model._conditions(frames).eye_openness[:, 0], clip)
        model.eval()
        model.set_eyes("replay")
        torch.testing.assert_close(model._conditions(frames).eye_openness[:, 0], clip)
    finally:
        model.set_driving(model.driving)


def test_appearance_follows_the_pose(pipeline: Any) -> None:
    model = copy.deepcopy(pipeline.model).eval()
    frames = torch.tensor([0, 7, 21])
    poses = torch.from_numpy(model.driving.track.camera_to_worlds)
    with torch.no_grad():
        # Light as a head's turning to the side would change it, and in frame 7 an accident.
        codes = poses[:, :1, 3] @ torch.tensor([[1.0, -2.0, 0.5, 3.0]])
        model.head.appearance.weight.copy_(codes)
        model.head.appearance.weight[7] += 1.0
    shown = model._conditions(frames).appearance
    torch.testing.assert_close(shown, model.head.appearance.weight.mean(dim=0).expand(3, -1))
    model.pose_refinement.mark_trained(torch.arange(20))
    shown = model._conditions(frames).appearance
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
    track = np.random.default_rng(0).normal(size=(60, *own.track.features.shape[1:])).astype(np.float32)
    try:
        model.set_driving(own.with_features(track))
        assert len(model._features) == 60
        assert {name: value.shape for name, value in model.state_dict().items()} == before
        outputs = model.get_outputs_for_camera(camera(pipeline))
        assert torch.isfinite(outputs["rgb"]).all()
    finally:
        model.set_driving(own)


def test_a_step_gives_every_group_gradients(pipeline: Any) -> None:
    pipeline.train()
    model = pipeline.model
    model.pose_refinement.mark_trained(torch.arange(20))
    _, losses, metrics = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameters in model.get_param_groups().items():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters), name
    portrait = {"composite", "surroundings", "torso_opacity", "torso_codes"}
    assert {"rgb", "mask", "entropy", "poses", "thickness", "occlusion"} | portrait == set(losses)
    assert float(metrics["samples_per_ray"]) > 0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_step_in_mixed_precision_has_the_same_losses(pipeline: Any, kind: torch.dtype) -> None:
    pipeline.train()
    model, datamanager = pipeline.model, pipeline.datamanager
    model.pose_refinement.mark_trained(torch.arange(20))
    bundle, batch = datamanager.next_train(0)
    bundle.step.sizes = StepSizes(occlusion=True)

    def step(half: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast("cpu", kind, enabled=half):
            outputs = model(bundle)
            losses = model.get_loss_dict(outputs, batch)
        torch.stack(list(losses.values())).sum().backward()
        return losses

    expected, found = step(half=False), step(half=True)
    for name, loss in expected.items():
        torch.testing.assert_close(found[name].float(), loss, rtol=0.02, atol=1e-4, msg=name)
    for name, parameters in model.get_param_groups().items():
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in parameters), name
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters), name


def test_the_surface_loss_uses_the_tracked_face(pipeline: Any) -> None:
    model = pipeline.model
    resolution = model.head.occupancy.resolution
    y = torch.linspace(-0.5, 0.5, resolution)[:, None].expand(-1, resolution).numpy()
    model.head.set_face(FaceShell(y - 0.1, y, y + 0.1, unit=0.4))
    try:
        pipeline.train()
        model.pose_refinement.mark_trained(torch.arange(20))
        bundle, batch = pipeline.datamanager.next_train(0)
        outputs = model(bundle)
        surface = FaceSurface(torch.from_numpy(y).float(), 0.4, model.ops)
        expected = surface_loss(outputs[STEP].samples, surface, len(bundle))
        expected = float(model.config.surface_weight * expected)
        losses = model.get_loss_dict(outputs, batch)
        assert float(losses["surface_distance"]) == pytest.approx(expected) and expected > 0
    finally:
        model.head.set_face(None)


def test_the_occlusion_prior_by_hand(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of made-up rays that meet a plane: where points lie, and the loss worked by hand."""
    model, config = pipeline.model, pipeline.model.config
    monkeypatch.setattr(config, "occlusion_fraction", 1.0)
    x, z = torch.meshgrid(torch.linspace(-0.6, 0.6, 13), torch.linspace(-0.6, 0.6, 13), indexing="ij")
    origins = torch.stack([x, torch.full_like(x, -3.0), z], dim=-1).view(-1, 3)
    rays = len(origins)
    directions = torch.tensor([[0.0, 1.0, 0.0]]).expand(rays, 3)
    surface = 3.0 + float(model.head._mouth[1]) + torch.zeros(rays, 1)
    opacity = torch.where(torch.arange(rays)[:, None] % 2 == 0, 0.95, 0.5)
    head = opacity * torch.rand(rays, 3)
    density, off = 0.1, 0.2
    asked: dict[str, torch.Tensor] = {}

    def behind(bundle: Any, counts: Any, conditions: Any, corrections: Any, chosen: Any, depth: Any) -> FieldOutputs:
        asked.update(chosen=chosen, depth=depth)
        rgb = (head / opacity)[chosen] + off
        return FieldOutputs(torch.full((len(rgb), 1), density), rgb, torch.zeros(len(rgb), 1))

    monkeypatch.setattr(model.head.renderer, "behind", behind)
    inputs = StepInputs(torch.tensor([0]), torch.rand(rays, 2), torch.rand(rays, 3))
    bundle = TrainingRays(origins=origins, directions=directions, pixel_area=torch.ones(rays, 1), step=inputs)
    step = StepOutputs(rgb=head, head=head, opacity=opacity, depth=surface, samples_per_ray=torch.tensor(1.0))
    loss = occlusion_prior(model.head.occlusion_points(bundle, None, None, step), config.step_size, rays)
    chosen, depth = asked["chosen"], asked["depth"][:, None]
    behind_surface = depth - surface[chosen]
    assert ((behind_surface >= 0) & (behind_surface <= config.occlusion_depth)).all()
    assert behind_surface.std() > 0.2 * config.occlusion_depth
    to_mouth = (origins[chosen] + depth * directions[chosen] - model.head._mouth).norm(dim=-1)
    assert (opacity[chosen] > 0.9).all() and (to_mouth > model.head.mouth_radius).all()
    # Which of the others were left out: those that would have been near the mouth at any depth, and no others.
    beside = (origins - model.head._mouth)[:, [0, 2]].norm(dim=-1)
    solid = (opacity.squeeze(-1) > 0.9).nonzero().squeeze(-1)
    left_out = solid[~torch.isin(solid, chosen)]
    assert len(left_out) and (beside[left_out] < model.head.mouth_radius).all()
    assert chosen.tolist() == sorted(chosen.tolist())
    # A step through a solid point lets a tenth of the light through.
    short = np.log(np.log(10.0) / config.step_size / density)
    expected = len(chosen) / rays * (off**2 + 0.01 * short)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_the_occlusion_prior_is_evaluated_on_average_as_often_as_configured(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.train()
    model = pipeline.model
    model.pose_refinement.mark_trained(torch.arange(20))
    monkeypatch.setattr(field_head, "OPAQUE", -1.0)
    monkeypatch.setattr(model.head, "mouth_radius", 0.0)
    monkeypatch.setattr(model.config, "occlusion_fraction", 0.125)
    monkeypatch.setattr(model.config, "occlusion_interval", 4)
    asked: list[int] = []
    behind = model.head.renderer.behind
    monkeypatch.setattr(model.head.renderer, "behind", lambda *given: asked.append(len(given[4])) or behind(*given))
    torch.manual_seed(0)
    steps = [pipeline.get_train_loss_dict(0) for _ in range(60)]
    there = ["occlusion" in losses for _, losses, _ in steps]
    assert 6 < sum(there) < 26 and len(asked) == sum(there)
    rays = [len(outputs["rgb"]) for outputs, losses, _ in steps if "occlusion" in losses]
    assert asked == pytest.approx([0.5 * count for count in rays], abs=4)


def test_the_occlusion_prior_trains_the_field_alone(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.train()
    model = pipeline.model
    model.pose_refinement.mark_trained(torch.arange(20))
    monkeypatch.setattr(model.config, "occlusion_fraction", 1.0)
    monkeypatch.setattr(field_head, "OPAQUE", 1e-3)
    _, losses, _ = pipeline.get_train_loss_dict(0)
    pipeline.zero_grad()
    losses["occlusion"].backward()
    groups = model.get_param_groups().items()
    learned = {name for name, group in groups if any(p.grad is not None and p.grad.any() for p in group)}
    assert learned == {"grids", "networks", "codes"}


def test_a_data_set_without_a_face_shape_prints_a_warning(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model, dataset = pipeline.model, pipeline.datamanager.train_dataset
    model._read_face(dataset)
    assert model.head.shell is None
    assert "has no face_shape.npy" in " ".join(capsys.readouterr().out.split())
    face = np.random.default_rng(0).normal(scale=0.4, size=(478, 3))
    known = copy.copy(dataset)
    known.clip = replace(dataset.clip, face_shape=face)
    try:
        model._read_face(known)
        assert model.head.shell is not None and model.head.shell.surface.shape == (model.head.occupancy.resolution,) * 2
    finally:
        model.head.set_face(None)


def test_cells_away_from_the_tracked_face_are_closed(pipeline: Any) -> None:
    model = pipeline.model
    resolution = model.head.occupancy.resolution
    dataset = pipeline.datamanager.train_dataset
    model._fit_to_clip(dataset)
    alone = model.head.occupancy.hull.clone()
    flat = np.zeros((resolution, resolution))
    model.head.set_face(FaceShell(flat - 0.2, flat, flat + 0.2, unit=0.4))
    try:
        model._fit_to_clip(dataset)
    finally:
        model.head.set_face(None)
    y = model.head.occupancy.centers()[..., 1]
    assert not model.head.occupancy.hull[y.abs() > 0.2 + 2.0 / resolution].any()
    deeper = model.head.occupancy.inner & ~model.head.occupancy.hull
    assert deeper.any() and (y[deeper] > 0.2).all()
    assert (y[deeper] < 0.2 + model.config.occlusion_depth + 2.0 / resolution).all()
    near = y.abs() < 0.2
    assert alone[near].any() and torch.equal(model.head.occupancy.hull[near], alone[near])


def test_lips_are_regressed_from_the_training_frames(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dataset = pipeline.model, pipeline.datamanager.train_dataset
    fitted, fit = list[Any](), model.lip_model.fit
    monkeypatch.setattr(model.lip_model, "fit", lambda *given: fitted.append(given) or fit(*given))
    model._fit_to_clip(dataset)
    trained = torch.tensor(dataset.metadata["frame_indices"])
    assert 0 < len(trained) < len(model.driving)
    track = model.driving.track
    windows, shapes = (torch.from_numpy(each)[trained] for each in (track.features, track.lip_shapes))
    openings = track.mouth_opening[trained.numpy()]
    silence = silence_examples(model.driving.feature_info, shapes.numpy(), openings)
    torch.testing.assert_close(fitted[0], (windows, shapes, silence))
    predicted = model.lip_model.lip_shapes(windows)
    assert predicted.std(dim=0).max() > 0.1
    torch.testing.assert_close(model.eval()._conditions(trained).lip_shapes, predicted)


@pytest.mark.parametrize("hidden_opacity", [0.9, 1e-3])
def test_a_step_without_synchronisation_equals_one_with_it(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, hidden_opacity: float
) -> None:
    """On a GPU the host does not wait to be told which samples and rays need asking, and all are asked."""
    pipeline.train()
    model, datamanager = pipeline.model, pipeline.datamanager
    model.pose_refinement.mark_trained(torch.arange(20))
    bundle, batch = datamanager.next_train(0)
    monkeypatch.setattr(field_head, "OPAQUE", hidden_opacity)

    def step() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        torch.manual_seed(1)
        model.zero_grad()
        outputs = model(bundle)
        losses = model.get_loss_dict(outputs, batch)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        return losses | {"samples": outputs["samples_per_ray"]}, gradients

    expected, gradients = step()
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    found, ours = step()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=1e-4 * scale + 1e-9, msg=name)
