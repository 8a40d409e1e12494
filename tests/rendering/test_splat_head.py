"""A head of Gaussians as part of a model: windows, poses, losses, training, files."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from support.synthetic_clip import write_clip

from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.data.training_rays import PixelWindow
from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.reference.poses import rotation_matrices
from ntalker_ns.method_configs import ntalker_splat_small
from ntalker_ns.rendering.losses import STEP
from ntalker_ns.rendering.splat_head import SplatConfig, view_of
from ntalker_ns.splats.gaussians import training_bytes
from ntalker_ns.talker_datamanager import Patches
from ntalker_ns.training.optimizers import FusedAdamConfig

SIZE, COUNT = 48, 500


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = write_clip(tmp_path_factory.mktemp("clip") / "ball", num_frames=22, size=SIZE)
    config = copy.deepcopy(ntalker_splat_small.config.pipeline)
    datamanager: Any = config.datamanager
    datamanager.data = datamanager.dataparser.data = Path(data)
    datamanager.surroundings_interval = 1
    model: Any = config.model
    model.splats.num_gaussians = COUNT
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="val")
    pipeline.model.fit_to_clip(pipeline.datamanager.train_dataset)
    return pipeline


def test_gaussians_start_on_the_head(pipeline: Any) -> None:
    pipeline.eval()
    dataset = pipeline.datamanager.eval_dataset
    outputs = pipeline.model.get_outputs_for_camera(dataset.cameras[0:1])
    head = dataset[0]["labels"] >= 2
    opacity = outputs["head_opacity"].squeeze(-1)
    assert opacity[head].mean() > 0.6 and opacity[~head].mean() < 0.1
    truth = dataset[0]["image"]
    assert (outputs["rgb"] - truth)[head].square().mean() < 0.4 * truth[head].var()


def test_a_step_gives_every_group_gradients(pipeline: Any) -> None:
    pipeline.train()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameters in pipeline.model.get_param_groups().items():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters), name
    assert {"rgb", "mask", "composite", "surroundings", "poses"} <= losses.keys()
    pipeline.zero_grad()


def test_a_patch_is_a_part_of_the_picture(pipeline: Any) -> None:
    pipeline.eval()
    model, manager = pipeline.model, pipeline.datamanager
    rays, batch = manager.training_rays(1, Patches(16, "any"))
    with torch.no_grad():
        outputs = model(rays)
    frame, (_, row, column) = int(batch["frames"][0]), batch["indices"][0].tolist()
    camera = manager.train_dataset.cameras[int(batch["indices"][0, 0])].to("cpu").flatten()
    conditions = model.conditions(torch.tensor([frame]), camera.camera_to_worlds)
    whole = model.head.picture(camera, conditions, model.pose_refinement.of_frames(torch.tensor([frame])).detach())
    expected = whole["head"][row : row + 16, column : column + 16]
    # Projections are linearised a little differently at the rim of a patch.
    torch.testing.assert_close(outputs["head"].view(16, 16, 3), expected, atol=2e-3, rtol=0)


def test_a_correction_moves_the_camera_as_it_moves_the_points_of_a_field():
    generator = torch.Generator().manual_seed(0)
    pose = torch.cat([torch.eye(3), torch.tensor([[0.1], [0.2], [4.0]])], dim=1)
    window = PixelWindow(pose, (100.0, 100.0), (24.0, 24.0), (48, 48))
    correction = 0.1 * torch.randn(6, generator=generator)
    seen = torch.randn(5, 3, generator=generator)
    # A field is asked at R x + t for what the tracker's camera sees at x.
    there = seen @ rotation_matrices(correction[None, :3])[0].T + correction[3:]
    plain, corrected = (view_of(window, each).world_to_camera for each in (None, correction))
    torch.testing.assert_close(there @ corrected[:, :3].T + corrected[:, 3], seen @ plain[:, :3].T + plain[:, 3])


def test_colours_of_lips_and_hair_weigh_more(pipeline: Any) -> None:
    pipeline.train()
    rays, batch = pipeline.datamanager.next_train(0)
    step = pipeline.model(rays)[STEP]
    image, lips = batch["image"], batch["labels"] >= 3
    error = step.rgb - image
    each = error.square().mean(dim=-1) + 0.2 * error.abs().mean(dim=-1)
    x0, y0, x1, y1 = batch["face_boxes"][0].tolist()
    rows, columns = batch["indices"][:, 1], batch["indices"][:, 2]
    face = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
    hair = (batch["labels"] >= 2) & ~face
    expected = (each.sum() + 5.0 * each[lips].sum() + each[hair].sum()) / len(each)
    assert lips.any() and hair.any()
    torch.testing.assert_close(pipeline.model.head.losses(step, batch)["rgb"], expected)


def test_colours_of_pictures_are_between_black_and_white(pipeline: Any) -> None:
    pipeline.eval()
    model, camera = pipeline.model, pipeline.datamanager.eval_dataset.cameras[0:1]
    before = model.head.gaussians.base.detach().clone()
    with torch.no_grad():
        model.head.gaussians.base[::2, 11:], model.head.gaussians.base[1::2, 11:] = 9.0, -9.0
        outputs = model.get_outputs_for_camera(camera)
        model.head.gaussians.base.copy_(before)
    assert (outputs["head"] >= 0.0).all() and (outputs["head"] <= outputs["head_opacity"]).all()
    assert (outputs["rgb"] >= 0.0).all() and (outputs["rgb"] <= 1.0 + 1e-6).all()


def test_its_checkpoint_is_strict(pipeline: Any) -> None:
    state = pipeline.state_dict()
    pipeline.load_pipeline(state, 0)
    pipeline.load_pipeline({**state, "_model.head.placed": torch.tensor(True)}, 0)
    del state["_model.head.gaussians.deltas"]
    with pytest.raises(NTalkerError, match=r"lacks head\.gaussians\.deltas"):
        pipeline.load_pipeline(state, 0)


def test_what_it_cannot_show_and_cannot_be(pipeline: Any) -> None:
    camera = pipeline.datamanager.eval_dataset.cameras[0:1]
    camera.camera_type = torch.full_like(camera.camera_type, CameraType.FISHEYE.value)
    with pytest.raises(NTalkerError, match="pinhole"):
        pipeline.model.get_outputs_for_camera(camera)
    with pytest.raises(NTalkerError, match=r"--pipeline\.model\.num-gaussians must be at least 100, not 7"):
        SplatConfig(num_gaussians=7).check()
    with pytest.raises(NTalkerError, match=r"num-gaussians 1000000000000 takes 2752000\.0 GB to train"):
        SplatConfig(num_gaussians=10**12).check_memory(10)


def test_memory_is_that_of_the_parameters_and_their_optimiser(pipeline: Any) -> None:
    gaussians = pipeline.model.head.gaussians
    each = sum(parameter.numel() * parameter.element_size() for parameter in gaussians.parameters())
    assert training_bytes(COUNT, len(gaussians.deltas)) == 4 * each


def test_light_of_poses_beyond_the_film_is_that_of_the_mean_pose(pipeline: Any) -> None:
    pipeline.eval()
    head, model = pipeline.model.head, pipeline.model
    filmed = torch.from_numpy(model.driving.track.camera_to_worlds[:1])

    def light(turn: float) -> torch.Tensor:
        pose = filmed.clone()
        pose[0] = rotation_matrices(torch.tensor([[0.0, 0.0, turn]]))[0] @ filmed[0]
        return model.conditions(torch.tensor([0]), pose).light[0]

    assert ((light(0.0) >= head.pose_lowest - 1e-5) & (light(0.0) <= head.pose_highest + 1e-5)).all()
    near, far = (float(light(turn).norm()) for turn in (0.5, 1.0))
    assert far < near < 0.5 * float(torch.maximum(head.pose_highest, -head.pose_lowest).norm())


def test_rays_anywhere_are_refused(pipeline: Any) -> None:
    rays, _ = pipeline.datamanager.next_train(0)
    rays.step.windows = []
    with pytest.raises(NTalkerError, match="whole-frames True"):
        pipeline.model(rays)


def test_it_learns_the_clip(pipeline: Any) -> None:
    """Last in this file: the head is another one afterwards."""
    pipeline.train()
    model = pipeline.model
    optimizers = {
        name: FusedAdamConfig(lr=1e-2 if name == "gaussians" else 1e-3).setup(group)
        for name, group in model.get_param_groups().items()
    }
    errors = []
    for number in range(60):
        model.head.before_step(number / 100)
        _, losses, _ = pipeline.get_train_loss_dict(number)
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        if number == 30:
            before = model.head.gaussians.base.detach().clone()
            model.adapt_head(optimizers)
            assert len(before) == COUNT
        errors.append(float(losses["rgb"].detach()))
    assert sum(errors[-10:]) < 0.6 * sum(errors[:10])
    assert all(torch.isfinite(each).all() for each in model.head.parameters())


def test_a_larger_outline_gets_gaussians(pipeline: Any) -> None:
    """A quarter of the Gaussians show nothing; an edited frame has a band of green above the head."""
    model, dataset = copy.deepcopy(pipeline.model).eval(), pipeline.datamanager.eval_dataset
    head, camera = model.head, dataset.cameras[0:1]
    with torch.no_grad():
        head.gaussians.base[::4, 10] = -5.0
    before = model.get_outputs_for_camera(camera)["head_opacity"][..., 0].numpy()
    labels = dataset[0]["labels"].numpy() >= 2
    rows = np.flatnonzero(labels.any(axis=1))
    missing = np.zeros_like(labels)
    missing[max(rows[0] - 6, 0) : rows[0], 18:30] = True
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[missing] = [0.1, 0.8, 0.2]
    intrinsics = tuple(float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy"))
    index = int(dataset.frame_indices[0])
    pose = camera.camera_to_worlds[0].numpy()
    head.extend_outline([OutlineView(index, image, labels | missing, missing, pose, intrinsics)])  # type: ignore[arg-type]
    outputs = model.get_outputs_for_camera(camera)
    after = outputs["head_opacity"][..., 0].numpy()
    assert before[missing].mean() < 0.2 and after[missing].mean() > 0.5
    shown = outputs["head"].numpy()[missing] / np.maximum(after[missing], 1e-3)[:, None]
    assert shown[:, 1].mean() > 2 * shown[:, 0].mean()


def test_an_edit_places_spare_gaussians_where_the_picture_is_wrong(pipeline: Any) -> None:
    """An edit trains what Gaussians are at rest, and not how they move."""
    pipeline.train()
    head = pipeline.model.head
    with torch.no_grad():
        head.gaussians.base[::4, 10] = -5.0
    spare = int(head.gaussians.transparent().sum())
    optimizers = {"gaussians": FusedAdamConfig(lr=1e-2).setup(head.param_groups()["gaussians"])}
    _, losses, _ = pipeline.get_train_loss_dict(0)
    losses["rgb"].backward()
    head.before_step(0.9)
    pipeline.model.adapt_head(optimizers)
    assert int(head.gaussians.transparent().sum()) == spare
    _, losses, _ = pipeline.get_train_loss_dict(0)
    losses["rgb"].backward()
    head.before_step(0.1)
    placed = head.gaussians.base.detach().clone()
    pipeline.model.adapt_head(optimizers)
    moved = (head.gaussians.base - placed).abs().amax(dim=1) > 0.0
    assert int(head.gaussians.transparent().sum()) == spare - COUNT // 20 and moved[::4].sum() == COUNT // 20
    pipeline.zero_grad()
