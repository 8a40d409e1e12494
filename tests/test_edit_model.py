"""The edited head: patches equal pictures, terms of the loss, refinement."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import render, tiny_edit, train_base
from support.tiny_run import start

from ntalker_ns import edit_model
from ntalker_ns.driving.controls import controlled
from ntalker_ns.edit_model import EditModel, as_picture
from ntalker_ns.edit_trainer import EditTrainer, edited_model_config
from ntalker_ns.editing.frames import EditFrames, Supervision, edit_indices, lip_masks
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import lip_contours
from ntalker_ns.refinement.losses import lip_edge_loss, perceptual_loss, style_loss
from ntalker_ns.refinement.vgg import VGGFeatures, vgg_layers
from ntalker_ns.rendering.background import Background
from ntalker_ns.rendering.display import DisplayOptions
from ntalker_ns.rendering.losses import STEP, occlusion_prior
from ntalker_ns.talker_trainer import TalkerTrainer
from ntalker_ns.training.step_budget import StepSizes
from ntalker_ns.viewer.shown_head import Scene, ShownHead

SIDE = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TalkerTrainer:
    place = tmp_path_factory.mktemp("place")
    return train_base(write_tiny_clip(place / "anna"), place / "outputs", max_num_iterations=12)


@pytest.fixture
def trainer(base: TalkerTrainer, tmp_path: Path) -> EditTrainer:
    """An edit before its first step."""
    torch.manual_seed(0)
    trainer = start(tiny_edit(tmp_path, base=base.base_dir))
    with torch.no_grad():
        for parameter in head(trainer).refinement.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return trainer


@pytest.fixture
def frames(trainer: EditTrainer) -> EditFrames:
    return trainer.dataset_update.unedited_frames()


def head(trainer: EditTrainer) -> EditModel:
    """Its model, typed."""
    model = trainer.pipeline.model
    assert isinstance(model, EditModel)
    return model


def patch(trainer: EditTrainer, frames: EditFrames, on_lips: bool = False) -> Any:
    return frames.patch(np.random.default_rng(1), 2, SIDE, on_lips, torch.device("cpu"))


def test_a_training_patch_is_a_piece_of_the_rendered_picture(trainer: EditTrainer, frames: EditFrames):
    model = head(trainer)
    bundle, batch = patch(trainer, frames)
    assert bundle.step.frames.tolist() == model.frames_of_times(bundle.times).unique().tolist()
    picture = render(trainer, 2)
    model.eval()  # No jitter: the samples of rendering.
    outputs = model(bundle)
    places = (bundle.step.place * torch.tensor(frames.size)).floor().long()
    rows, columns = places[:, 1], places[:, 0]
    expected = as_picture(picture["field_rgb"][rows, columns])
    torch.testing.assert_close(outputs["rendered"], expected, rtol=0, atol=2e-3)
    assert torch.equal(batch["edited"], as_picture(bundle.step.edited))
    np.testing.assert_array_equal(
        (batch["edited"][0].permute(1, 2, 0) * 255).round().view(-1, 3), frames.edited[2][rows, columns]
    )


def test_training_conditions_are_those_of_rendering(trainer: EditTrainer):
    model, frame = head(trainer), torch.tensor([3])
    assert model.training or model.train() is model
    model.train()
    trained = model.conditions(frame)
    model.eval()
    rendered = model.conditions(frame)
    assert torch.equal(trained.speech_code, rendered.speech_code)
    assert torch.equal(trained.appearance, rendered.appearance)
    assert trained.speech_code.requires_grad
    assert model.train().training


def test_lip_patches_lie_on_the_lips_and_include_the_inputs_of_their_loss(trainer: EditTrainer, frames: EditFrames):
    frames.unedited[:] = 255 - frames.unedited
    bundle, batch = patch(trainer, frames, on_lips=True)
    assert batch["lip_mask"].shape == (1, 1, SIDE, SIDE)
    assert batch["lip_mask"].sum() > 0
    assert (batch["unedited"] - (1 - batch["edited"])).abs().max() < 1e-6
    model = head(trainer).train()
    outputs = model(bundle)
    losses = model.get_loss_dict(outputs, batch)
    expected = 0.1 * lip_edge_loss(outputs["rendered"], batch["unedited"], batch["lip_mask"], 1.0)
    torch.testing.assert_close(losses["lip_edge"], expected)
    whole = {name: batch[name] for name in ("edited", "opacities")}
    assert "lip_edge" not in model.get_loss_dict(outputs, whole)


def corner(values: torch.Tensor) -> torch.Tensor:
    """The mean of the only whole square of 8 px in a patch."""
    return values[..., :8, :8].mean(dim=(2, 3))


def test_half_of_the_patches_lie_where_the_edit_changed_most(frames: EditFrames):
    own = replace(frames, edited=frames.unedited.copy())
    picture = own.unedited[2].copy()
    spot = (slice(4, 8), slice(20, 24))
    picture[spot] = 255 - picture[spot]
    rng = np.random.default_rng(0)

    def hits(count: int = 200) -> float:
        whole = [own.patch(rng, 2, 8, False, torch.device("cpu"))[0].step.place.numpy() for _ in range(count)]
        size = np.array(own.size)
        middles = np.stack([(place * size).mean(axis=0) for place in whole])
        return float((np.abs(middles - [22.0, 6.0]) < 4.5).all(axis=1).mean())

    before = hits()
    own.set_edited(2, picture)
    assert before < 0.2
    assert hits() > 0.45


def test_the_loss_is_equation_9(trainer: EditTrainer, frames: EditFrames, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    config, model = trainer.config.pipeline.model, head(trainer).train()
    config.perceptual_weight, config.style_weight, config.colour_weight = 0.001, 10.0, 1.0
    vgg = VGGFeatures({f"features.{name}": value for name, value in vgg_layers().state_dict().items()})
    monkeypatch.setattr(edit_model, "load_vgg", lambda weights: vgg)
    model.load_feature_network()
    bundle, batch = patch(trainer, frames)
    bundle.step.sizes = StepSizes(occlusion=True)
    outputs = model(bundle)
    losses = model.get_loss_dict(outputs, batch)
    features, targets = vgg(outputs["final"]), vgg(batch["edited"])
    expected = {
        "reconstruction": (outputs["rendered"] - batch["edited"]).square().mean(),
        "perceptual": 0.001 * perceptual_loss(features, targets),
        "style": 10.0 * style_loss(features, targets),
        "adversarial": 0.01 * torch.nn.functional.softplus(-model.discriminator.eval()(outputs["final"])).mean(),
        "colour": config.colour_weight * corner(outputs["final"] - batch["edited"]).square().mean(),
        "opacity": config.opacity_weight * (outputs["opacities"] - batch["opacities"]).square().mean(),
        "occlusion": config.occlusion_weight * occlusion_prior(outputs[STEP].occlusion, config.step_size, SIDE**2),
    }
    assert losses.keys() == {*expected, "discriminator"}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-2 if name == "adversarial" else 1e-5, atol=1e-7)
    assert not any("vgg" in name or "features" in name for name in trainer.pipeline.state_dict())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, group in model.get_param_groups().items():
        assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in group), name


def test_opacities_are_held_at_those_before_the_edit(trainer: EditTrainer, frames: EditFrames):
    bundle, batch = patch(trainer, frames)
    before = render(trainer, 2)
    model = head(trainer).eval()
    places = (bundle.step.place * torch.tensor(frames.size)).floor().long()
    expected = torch.cat([before["head_opacity"], before["torso_opacity"]], dim=-1)[places[:, 1], places[:, 0]]
    torch.testing.assert_close(batch["opacities"], expected, rtol=0, atol=0.5 / 255 + 1e-6)
    # The model's training outputs are those of a picture.
    torch.testing.assert_close(model(bundle)["opacities"], expected, rtol=0, atol=2e-3)
    with torch.no_grad():
        model.portrait.torso.color_net.layers[-1].bias.add_(2.0)  # type: ignore[operator, union-attr]
    model.train()
    losses = model.get_loss_dict(model(bundle), batch)
    assert losses["opacity"] > 1e-3
    gradient = torch.autograd.grad(losses["opacity"], model.portrait.torso.grid.table)[0]
    assert gradient.abs().max() > 0


def test_without_vggs_weights_another_network_judges(trainer: EditTrainer, frames: EditFrames, capsys: Any):
    config, model = trainer.config.pipeline.model, head(trainer).train()
    config.vgg_weights, config.style_weight = Path("nowhere.pth"), 10.0
    with pytest.raises(NTalkerError, match=r"nowhere\.pth cannot be read"):
        trainer.pipeline.load_features()
    config.vgg_weights, config.perceptual = None, None
    trainer.pipeline.load_features()
    assert "by EfficientNet-Lite0" in " ".join(capsys.readouterr().out.split())
    bundle, batch = patch(trainer, frames)
    losses = model.get_loss_dict(model(bundle), batch)
    assert float(losses["style"].detach()) > 0
    gradient = torch.autograd.grad(losses["style"], list(model.refinement.parameters())[-1])[0]
    assert gradient.abs().max() > 0


def test_lip_patches_close_no_cells(trainer: EditTrainer, frames: EditFrames):
    model, plan = head(trainer), trainer.config.plan()
    occupancy: Any = model.head.occupancy
    before = occupancy.visible.clone()
    assert [plan.on_lips(step) for step in (16, 24)] == [False, True]
    trainer.supervise(Supervision(frames, plan))
    attributes = TrainingCallbackAttributes(
        optimizers=None, grad_scaler=None, pipeline=trainer.pipeline, trainer=trainer
    )
    update = trainer.pipeline.get_training_callbacks(attributes)[-1]
    update.run_callback_at_location(24, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
    assert torch.equal(occupancy.visible, before)
    update.run_callback_at_location(16, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
    assert not torch.equal(occupancy.visible, before)


def test_the_refinement_weight_mixes_rendered_and_refined_picture(trainer: EditTrainer):
    model = head(trainer)
    pictures = {}
    for weight in (0.0, 0.5, 1.0):
        model.refinement_weight = weight
        pictures[weight] = render(trainer, 0)
    torch.testing.assert_close(pictures[0.0]["rgb"], pictures[1.0]["field_rgb"])
    middle = (0.5 * (model.refinement(planes(pictures[0.0]["rgb"])) + planes(pictures[0.0]["rgb"]))).clamp(0, 1)
    torch.testing.assert_close(planes(pictures[0.5]["rgb"]), middle)
    assert (pictures[1.0]["rgb"] - pictures[0.0]["rgb"]).abs().max() > 1e-3


def shown_settings(shown: ShownHead, model: EditModel) -> Iterator[str]:
    """Sets whatever the viewer's panel can set, one after the other."""
    for name in ("white", "lime", "transparent", "#102030"):
        shown.display = DisplayOptions(background=Background.parse(name))
        yield name
    for weight in (0.0, 0.5):
        shown.display = DisplayOptions(refinement_weight=weight)
        yield f"refinement {weight}"
    for eyes, pose in (("0.5", "replay"), ("blink", "still"), ("replay", "sway")):
        shown.perform(Scene(controlled(model.driving, model.driving, eyes, pose), moves=False))
        yield f"{eyes}, {pose}"


def test_an_edit_is_the_same_whatever_the_viewer_shows(trainer: EditTrainer, frames: EditFrames):
    """Frames to edit, steps and sheets: whoever looks at the training must not change it."""
    model, camera = head(trainer), trainer.dataset_update.cameras[2:3]

    def step() -> torch.Tensor:
        torch.manual_seed(0)
        return model(patch(trainer, frames)[0])["rendered"]

    before, rendered = render(trainer, 2), step()
    assert {"rgb", "field_rgb"} < before.keys()
    seen, shown = [], ShownHead(model)
    for setting in shown_settings(shown, model):
        model.eval()
        seen.append(shown.get_outputs_for_camera(camera)["rgb"])
        model.train()
        after = render(trainer, 2)
        assert all(torch.allclose(after[name], each, atol=1e-6) for name, each in before.items()), setting
        torch.testing.assert_close(step(), rendered)
    assert len({float(each.sum()) for each in seen}) >= 6  # The viewer does show what the panel says.


def test_a_faithful_copy_of_the_refinement_network_refines_in_its_place(trainer: EditTrainer):
    model, update = head(trainer), trainer.dataset_update
    exact = render(trainer, 2)
    fidelity = trainer.distil_refinement(update.cameras)
    assert fidelity > 20.0 and not any(parameter.requires_grad for parameter in model.small_refinement.parameters())
    model.small_refinement.ready.fill_(True)  # However faithful it is at this size.
    model.eval()
    copied, video = model.get_outputs_for_camera(update.cameras[2:3])["rgb"], model.video_frame(update.cameras[2:3])
    assert np.abs(video - 255.0 * copied.numpy()).max() < 2.0
    error, unrefined = ((picture - exact["rgb"]).square().mean() for picture in (copied, exact["field_rgb"]))
    assert 0.0 < error < 0.2 * unrefined
    trainer.pipeline.reset_small_refinement()
    torch.testing.assert_close(render(trainer, 2)["rgb"], exact["rgb"])


def test_a_chosen_background_is_not_refined(trainer: EditTrainer):
    model = head(trainer)
    model.refinement_weight = 1.0
    model.portrait.set_background("#20c040")
    outputs = render(trainer, 0)
    around = (1 - outputs["head_opacity"]) * (1 - outputs["torso_opacity"])
    refined = model.refinement(planes(outputs["field_rgb"]))[0].permute(1, 2, 0).clamp(0, 1)
    expected = around * outputs["field_rgb"] + (1 - around) * refined
    torch.testing.assert_close(outputs["rgb"], expected)
    behind = outputs["background"]
    torch.testing.assert_close(behind, torch.tensor([0x20, 0xC0, 0x40]).div(255).expand_as(behind))


def planes(picture: torch.Tensor) -> torch.Tensor:
    return picture.permute(2, 0, 1)[None]


def test_regions_are_head_portrait_and_frame(frames: EditFrames):
    opacity = frames.head_in(1, np.zeros((*frames.size[::-1], 3), np.float32))
    head, portrait, frame = (frames.region(1, region, opacity) for region in ("head", "portrait", "frame"))
    opacities = frames.opacities[1] / 255
    np.testing.assert_allclose(head[..., 0], opacities[..., 0], atol=1e-6)
    np.testing.assert_allclose(1 - portrait[..., 0], (1 - opacities).prod(axis=-1), atol=1e-6)
    assert (frame == 1).all()


def test_an_edit_takes_over_its_bases_configuration(base: TalkerTrainer):
    theirs = base.config.pipeline.model
    theirs.coarse_fraction = 0.7
    own = edited_model_config(tiny_edit(Path()).pipeline.model, theirs)
    theirs.coarse_fraction = 0.0
    assert own._target is EditModel
    assert own.coarse_fraction == 0
    assert own.field == theirs.field
    assert own.field is not theirs.field
    assert own.discriminator_channels == (4, 8)


def test_frames_are_edit_indices():
    assert edit_indices(3, np.arange(11)).tolist() == [0, 5, 10]
    assert edit_indices(4, np.arange(4)).tolist() == [0, 1, 2, 3]
    assert edit_indices(1, np.arange(9)).tolist() == [0]
    assert edit_indices(2, np.array([3, 5, 8])).tolist() == [3, 8]


def test_what_an_edit_is_measured_on_is_not_edited(base: TalkerTrainer, tmp_path: Path):
    driving: Any = base.pipeline.model.driving
    held_out = np.flatnonzero(~driving.track.is_train)
    for hold_out in (True, False):
        trainer = start(tiny_edit(tmp_path, {"hold_out": hold_out, "num_frames": 20}, base=base.base_dir))
        assert bool(set(trainer.dataset_update.indices) & set(held_out)) is not hold_out


def test_lip_masks_are_where_the_lips_are(base: TalkerTrainer):
    """The rig's outline, moved by the lip shape and projected; here by homogeneous matrices."""
    driving: Any = base.pipeline.model.driving
    rig, camera, indices = driving.rig, driving.camera, np.array([0, 7])
    shapes = driving.track.lip_shapes[indices] + 0.5
    masks = lip_masks(driving, indices, shapes, camera.size)
    assert masks.shape == (2, camera.height, camera.width) and masks.dtype == bool
    for mask, index, shape in zip(masks, indices, shapes, strict=True):
        flat = (rig.lip_points + np.tensordot(shape, rig.lip_basis, 1))[lip_contours(len(rig.lip_points))[0]]
        world = np.stack([flat[:, 0], 0 * flat[:, 0] + rig.keypoints["mouth"][1], flat[:, 1], 0 * flat[:, 0] + 1])
        pose = np.vstack([driving.track.camera_to_worlds[index], [0, 0, 0, 1]]).astype(np.float64)
        x, y, z, _ = np.diag([1, -1, -1, 1]) @ np.linalg.inv(pose) @ world
        u, v = camera.fl_x * x / z + camera.cx, camera.fl_y * y / z + camera.cy
        rows, columns = np.nonzero(mask)
        for found, expected in ((columns, u), (rows, v)):
            assert abs(found.min() - expected.min()) < 1.5 and abs(found.max() + 1 - expected.max()) < 1.5
