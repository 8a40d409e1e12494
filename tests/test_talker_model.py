"""The model's conditions of frames, its clock, and what it learns from a data set before the first step."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer
from support.untrained_head import camera, pipeline_config, untrained

from ntalker_ns import talker_model, talker_trainer
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.controls import with_eyes
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.rendering.background import Background
from ntalker_ns.rendering.display import DisplayOptions
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.viewer.playback import Playback
from ntalker_ns.viewer.shown_head import Scene, ShownHead


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipeline_config(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def pipeline(config: Any) -> Any:
    return untrained(config)


def step_beginning(pipeline: Any, steps: int = 1) -> Callable[[int], None]:
    """What the model does at the beginning of a training of so many steps; the result is called before each step."""
    trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=steps))
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=trainer)
    (before,) = pipeline.model.get_training_callbacks(attributes)
    return partial(before.run_callback_at_location, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)


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
    pipeline: Any, share: float, levels: list[int]
) -> None:
    model = pipeline.model
    model.config.coarse_fraction = share
    begin = step_beginning(pipeline, steps=40)
    found = []
    for step in (0, 10, 20, 39):
        begin(step)
        found.append(model.head.field.active_levels)
    assert found == levels


def test_light_follows_the_camera_and_not_the_clip(pipeline: Any) -> None:
    model = pipeline.model
    model.eval()
    poses = torch.from_numpy(model.driving.track.camera_to_worlds)
    model.pose_refinement.mark_trained(torch.arange(len(poses)))
    with torch.no_grad():
        model.head.appearance.weight.copy_(poses[:, :1, 3] * torch.ones(1, model.head.appearance.weight.shape[1]))
    codes = model.conditions(torch.tensor([2, 9]), poses[[5, 5]]).appearance
    torch.testing.assert_close(codes[0], codes[1])
    torch.testing.assert_close(codes[:1], model.conditions(torch.tensor([5])).appearance)


def test_what_the_viewer_shows_is_seen_there_alone(pipeline: Any) -> None:
    model, shown = pipeline.model, ShownHead(pipeline.model)
    pipeline.eval()
    held_out = [next(iter(pipeline.datamanager.fixed_indices_eval_dataloader))]
    before, scores = model.get_outputs_for_camera(camera(pipeline)), pipeline.get_average_image_metrics(held_out, "")
    pipeline.eval()
    own = model.driven()
    asleep = Scene(with_eyes(model.driving, 0.0), moves=False)
    shown.perform(asleep)
    shown.display = DisplayOptions(background=Background("colour", (1.0, 1.0, 1.0)))
    picture = shown.get_outputs_for_camera(camera(pipeline))
    assert (picture["background"] == 1.0).all() and not torch.equal(picture["head"], before["head"])
    again = shown.get_outputs_for_camera(camera(pipeline))
    assert torch.equal(again["rgb"], picture["rgb"])
    assert all(model.driven()[name] is value for name, value in own.items() if name != "portrait")
    after = model.get_outputs_for_camera(camera(pipeline))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    rescored = pipeline.get_average_image_metrics(held_out, "")
    assert all(rescored[name] == value for name, value in scores.items() if name.endswith(("psnr", "ssim")))
    assert shown.device == model.device


def test_the_viewer_shows_the_frame_and_the_pose_of_its_playback(pipeline: Any) -> None:
    model, shown = pipeline.model.eval(), ShownHead(pipeline.model)
    sequence = model.driving.take(np.array([3, 9, 5]))
    sequence = sequence.with_track(times=np.array([0.0, 0.5, 1.0]))
    shown.playback = Playback(3, 25.0)
    shown.perform(Scene(sequence, moves=True))
    for frame in (1, 2):
        shown.playback.seek(frame)
        cameras = sequence_cameras(sequence)
        model.set_driving(sequence)
        expected = model.get_outputs_for_camera(cameras[frame : frame + 1])["rgb"]
        torch.testing.assert_close(shown.get_outputs_for_camera(sequence_cameras(sequence)[:1])["rgb"], expected)
        seen = torch.from_numpy(shown.video_frame(cameras[frame : frame + 1], shown.display))
        assert (seen.int() - levels(expected).int()).abs().max() <= 1


def levels(picture: torch.Tensor) -> torch.Tensor:
    return (255 * picture.clamp(0, 1)).round().byte()


def test_appearance_follows_the_pose(pipeline: Any) -> None:
    model = pipeline.model.eval()
    frames = torch.tensor([0, 7, 21])
    poses = torch.from_numpy(model.driving.track.camera_to_worlds)
    with torch.no_grad():
        # Light as a head's turning to the side would change it, and in frame 7 an accident.
        codes = poses[:, :1, 3] @ torch.tensor([[1.0, -2.0, 0.5, 3.0]])
        model.head.appearance.weight.copy_(codes)
        model.head.appearance.weight[7] += 1.0
    shown = model.conditions(frames).appearance
    torch.testing.assert_close(shown, model.head.appearance.weight.mean(dim=0).expand(3, -1))
    model.pose_refinement.mark_trained(torch.arange(20))
    shown = model.conditions(frames).appearance
    assert (shown[1] - codes[7]).abs().max() < 0.7
    spread = codes[:20].std(dim=0)
    torch.testing.assert_close(shown[0] / spread, codes[0] / spread, atol=0.4, rtol=0)


def test_a_time_is_the_nearest_frame(pipeline: Any) -> None:
    last = len(pipeline.model.driving) - 1
    times = torch.tensor([[0.0], [1.0], [0.4 / last], [0.6 / last], [7.0]])
    assert pipeline.model.frames_of_times(times).tolist() == [0, last, 0, 1, last]


def test_a_data_set_without_a_face_shape_prints_a_warning(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, dataset = pipeline.model, pipeline.datamanager.train_dataset
    step_beginning(pipeline)
    assert model.head.shell is None
    assert "has no face_shape.npy" in " ".join(capsys.readouterr().out.split())
    face = np.random.default_rng(0).normal(scale=0.4, size=(478, 3))
    monkeypatch.setattr(dataset, "clip", replace(dataset.clip, face_shape=face))
    step_beginning(pipeline)
    assert model.head.shell is not None and model.head.shell.surface.shape == (model.head.occupancy.resolution,) * 2


def test_cells_away_from_the_tracked_face_are_closed(config: Any) -> None:
    flat = np.zeros((config.model.occupancy_resolution,) * 2)
    alone, with_face = untrained(config), untrained(config)
    with_face.model.head.set_face(FaceShell(flat - 0.2, flat, flat + 0.2, unit=0.4))
    for pipeline in (alone, with_face):
        step_beginning(pipeline)(0)
    everywhere, occupancy = alone.model.head.occupancy.hull, with_face.model.head.occupancy
    y, cell = occupancy.centers()[..., 1], 2.0 / occupancy.resolution
    assert not occupancy.hull[y.abs() > 0.2 + cell].any()
    deeper = occupancy.inner & ~occupancy.hull
    assert deeper.any() and (y[deeper] > 0.2).all()
    assert (y[deeper] < 0.2 + config.model.occlusion_depth + cell).all()
    near = y.abs() < 0.2
    assert everywhere[near].any() and torch.equal(occupancy.hull[near], everywhere[near])


def test_lips_are_regressed_from_the_training_frames(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dataset = pipeline.model, pipeline.datamanager.train_dataset
    fitted, fit = list[Any](), model.lip_model.fit
    monkeypatch.setattr(model.lip_model, "fit", lambda *given: fitted.append(given) or fit(*given))
    step_beginning(pipeline)(0)
    trained = torch.tensor(dataset.metadata["frame_indices"])
    assert 0 < len(trained) < len(model.driving)
    track = model.driving.track
    windows, shapes = (torch.from_numpy(each)[trained] for each in (track.features, track.lip_shapes))
    openings = track.mouth_opening[trained.numpy()]
    silence = silence_examples(model.driving.feature_info, shapes.numpy(), openings)
    torch.testing.assert_close(fitted[0][:3], (windows, shapes, silence))
    predicted = model.lip_model.lip_shapes(windows)
    assert predicted.std(dim=0).max() > 0.1
    torch.testing.assert_close(model.eval().conditions(trained).lip_shapes, predicted)
    closed = np.full((len(model.driving), 2), [1.0, 0.0])
    model.set_driving(replace(model.driving, closed=closed))
    met = model.lip_model.lip_shapes(windows, torch.from_numpy(closed[trained]))
    assert not torch.allclose(met, predicted)
    torch.testing.assert_close(model.conditions(trained).lip_shapes, met)
