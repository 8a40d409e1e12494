"""A step of the model: its losses, what they train, and the occlusion prior; on a head that was not trained."""

from typing import Any

import numpy as np
import pytest
import torch
from support.untrained_head import mark_trained, pipeline_config, untrained

from ntalker_ns.data.training_rays import ClipInputs, TrainingRays
from ntalker_ns.face.shell import MOUTH, FaceShell
from ntalker_ns.kernels.types import FieldOutputs
from ntalker_ns.rendering import field_head
from ntalker_ns.rendering.head_renderer import HeadRenderer, RayOutputs
from ntalker_ns.rendering.losses import STEP, FaceSurface, occlusion_prior, surface_loss
from ntalker_ns.training import transfers
from ntalker_ns.training.step_budget import StepSizes


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipeline_config(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def datamanager(config: Any) -> Any:
    return untrained(config).datamanager


@pytest.fixture
def pipeline(config: Any, datamanager: Any) -> Any:
    return untrained(config, datamanager)


def test_a_step_gives_every_group_gradients(pipeline: Any) -> None:
    mark_trained(pipeline)
    model = pipeline.model
    _, losses, metrics = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameters in model.get_param_groups().items():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters), name
    portrait = {"composite", "surroundings", "torso_opacity", "torso_codes"}
    assert {"rgb", "mask", "entropy", "poses", "thickness", "occlusion"} | portrait == set(losses)
    assert float(metrics["samples_per_ray"]) > 0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_step_in_mixed_precision_has_the_same_losses(pipeline: Any, kind: torch.dtype) -> None:
    mark_trained(pipeline)
    model, datamanager = pipeline.model, pipeline.datamanager
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
    mark_trained(pipeline)
    bundle, batch = pipeline.datamanager.next_train(0)
    outputs = model(bundle)
    surface = FaceSurface(torch.from_numpy(y).float(), 0.4, model.ops)
    expected = surface_loss(outputs[STEP].samples, surface, len(bundle))
    expected = float(model.config.surface_weight * expected)
    losses = model.get_loss_dict(outputs, batch)
    assert float(losses["surface_distance"]) == pytest.approx(expected) and expected > 0


def test_the_occlusion_prior_by_hand(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of made-up rays that meet a plane: where points lie, and the loss worked by hand."""
    mark_trained(pipeline)
    model, config = pipeline.model, pipeline.model.config
    config.occlusion_fraction, config.refine_poses = 1.0, False
    rig = model.driving.rig
    mouth, radius = torch.tensor(rig.keypoints["mouth"]).float(), MOUTH * rig.eye_distance
    x, z = torch.meshgrid(torch.linspace(-0.6, 0.6, 13), torch.linspace(-0.6, 0.6, 13), indexing="ij")
    origins = torch.stack([x, torch.full_like(x, -3.0), z], dim=-1).view(-1, 3)
    rays = len(origins)
    directions = torch.tensor([[0.0, 1.0, 0.0]]).expand(rays, 3)
    surface = 3.0 + float(mouth[1]) + torch.zeros(rays, 1)
    opacity = torch.where(torch.arange(rays)[:, None] % 2 == 0, 0.95, 0.5)
    head = opacity * torch.rand(rays, 3)
    density, off = 0.1, 0.2
    queried: dict[str, torch.Tensor] = {}

    def behind(
        renderer: Any, bundle: Any, counts: Any, conditions: Any, corrections: Any, chosen: Any, depth: Any
    ) -> FieldOutputs:
        queried.update(chosen=chosen, depth=depth)
        rgb = (head / opacity)[chosen] + off
        return FieldOutputs(torch.full((len(rgb), 1), density), rgb, torch.zeros(len(rgb), 1))

    found = RayOutputs(head, opacity, surface, samples_per_ray=torch.tensor(1.0))
    monkeypatch.setattr(HeadRenderer, "rays", lambda *given: found)
    monkeypatch.setattr(HeadRenderer, "behind", behind)
    inputs = ClipInputs(torch.tensor([0]), torch.rand(rays, 2), torch.rand(rays, 3), headless=torch.rand(rays, 3))
    inputs.sizes = StepSizes(occlusion=True)
    bundle = TrainingRays(origins=origins, directions=directions, pixel_area=torch.ones(rays, 1), step=inputs)
    loss = occlusion_prior(model(bundle)[STEP].occlusion, config.step_size, rays)
    chosen, depth = queried["chosen"], queried["depth"][:, None]
    behind_surface = depth - surface[chosen]
    assert ((behind_surface >= 0) & (behind_surface <= config.occlusion_depth)).all()
    assert behind_surface.std() > 0.2 * config.occlusion_depth
    to_mouth = (origins[chosen] + depth * directions[chosen] - mouth).norm(dim=-1)
    assert (opacity[chosen] > 0.9).all() and (to_mouth > radius).all()
    # Which of the others were left out: those that would have been near the mouth at any depth, and no others.
    beside = (origins - mouth)[:, [0, 2]].norm(dim=-1)
    solid = (opacity.squeeze(-1) > 0.9).nonzero().squeeze(-1)
    left_out = solid[~torch.isin(solid, chosen)]
    assert len(left_out) and (beside[left_out] < radius).all()
    assert chosen.tolist() == sorted(chosen.tolist())
    # A step through a solid point lets a tenth of the light through.
    short = np.log(np.log(10.0) / config.step_size / density)
    expected = len(chosen) / rays * (off**2 + 0.01 * short)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_the_occlusion_prior_is_evaluated_on_average_as_often_as_configured(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_trained(pipeline)
    model = pipeline.model
    monkeypatch.setattr(field_head, "OPAQUE", -1.0)
    model.config.occlusion_fraction, model.config.occlusion_interval = 0.125, 4
    model.head.mouth_radius = 0.0
    queried: list[int] = []
    behind = HeadRenderer.behind
    monkeypatch.setattr(HeadRenderer, "behind", lambda *given: queried.append(len(given[5])) or behind(*given))
    torch.manual_seed(0)
    steps = [pipeline.get_train_loss_dict(0) for _ in range(60)]
    there = ["occlusion" in losses for _, losses, _ in steps]
    assert 6 < sum(there) < 26 and len(queried) == sum(there)
    rays = [len(outputs["rgb"]) for outputs, losses, _ in steps if "occlusion" in losses]
    assert queried == pytest.approx([0.5 * count for count in rays], abs=4)


def test_the_occlusion_prior_trains_the_field_alone(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_trained(pipeline)
    model = pipeline.model
    model.config.occlusion_fraction = 1.0
    monkeypatch.setattr(field_head, "OPAQUE", 1e-3)
    _, losses, _ = pipeline.get_train_loss_dict(0)
    pipeline.zero_grad()
    losses["occlusion"].backward()
    groups = model.get_param_groups().items()
    learned = {name for name, group in groups if any(p.grad is not None and p.grad.any() for p in group)}
    assert learned == {"grids", "networks", "codes"}


@pytest.mark.parametrize("hidden_opacity", [0.9, 1e-3])
def test_a_step_without_synchronisation_equals_one_with_it(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, hidden_opacity: float
) -> None:
    """On a GPU the host does not wait to be told which samples and rays need a query, and all are queried."""
    mark_trained(pipeline)
    model, datamanager = pipeline.model, pipeline.datamanager
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
