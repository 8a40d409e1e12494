"""Recorded steps are the steps: the first one of a kind, asked again with the others' numbers where its own were."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from support.synthetic_clip import write_clip
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.method_configs import ntalker_base_small
from ntalker_ns.talker_pipeline import TalkerPipeline
from ntalker_ns.training import recorded_steps, transfers
from ntalker_ns.training.recorded_steps import AFTER, KEPT, RecordedSteps, tensors_in

FRAMES = 20
WARM_UPS = 3
"""Steps that torch takes before it records one."""


@dataclass
class Recordings:
    """In place of `torch.cuda.make_graphed_callables`: all that Python knew when a step was recorded stays as it was,
    and the step's tensors where they were."""

    made: int = 0
    replayed: list[frozenset[str]] = field(default_factory=list)
    """Names of the losses of each replay."""

    def record(
        self,
        ask: Any,
        tensors: tuple[Tensor, ...],
        allow_unused_input: bool,
        pool: str,
        capture_error_mode: str = "global",
    ) -> Any:
        assert (allow_unused_input, pool, capture_error_mode) == (True, "pool", "thread_local")
        # Where the way back is recorded.
        assert not torch.is_autocast_enabled("cuda")
        self.made += 1
        for _ in range(WARM_UPS):
            ask(*tensors)

        def replay(*given: Tensor) -> Any:
            for own, other in zip(tensors, given, strict=True):
                # Parameters are where they were.
                if own.data_ptr() != other.data_ptr():
                    own.copy_(other)
            learned = (given[i] if given[i].requires_grad else own for i, own in enumerate(tensors))
            outputs, losses, metrics = ask(*learned)
            self.replayed.append(frozenset(losses))
            return outputs, losses, metrics

        return replay


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    made = Recordings()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", made.record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    return made


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def ask(self, bundle: RayBundle, batch: dict[str, Any]) -> Any:
        self.asked += 1
        return {}, {"loss": 2.0 * bundle.origins[:, 0].sum() + batch["y"].sum()}, {}


def rays(x: Tensor) -> RayBundle:
    """Rays whose origins have these x."""
    origins = x[:, None].repeat(1, 3)
    return RayBundle(origins=origins, directions=torch.zeros_like(origins), pixel_area=torch.ones(len(x), 1))


def test_a_kind_of_step_is_recorded_after_enough_runs(recordings: Recordings) -> None:
    model = Double()
    steps = RecordedSteps(model, model.ask)
    for number in range(3 * AFTER):
        bundle, batch = rays(torch.full((2,), float(number))), {"y": torch.ones(3)}
        told = number % 2
        assert steps(bundle, batch, told)[1]["loss"] == 4.0 * number + 3.0
    assert recordings.made == 2
    assert steps(rays(torch.ones(4)), {"y": torch.ones(3)}, 0)[1]["loss"] == 11.0
    assert recordings.made == 2


def test_only_recent_recordings_are_kept(recordings: Recordings) -> None:
    model = Double()
    steps = RecordedSteps(model, model.ask)

    def take(told: int) -> None:
        steps(rays(torch.ones(1)), {"y": torch.ones(1)}, told)

    for told in range(KEPT + 1):
        for _ in range(AFTER):
            take(told)
    assert recordings.made == KEPT + 1
    take(1)
    assert recordings.made == KEPT + 1
    take(0)
    assert recordings.made == KEPT + 2


def test_tensors_are_found_once_and_in_order() -> None:
    one, two, three = (torch.tensor(float(i)) for i in range(3))
    found = list(tensors_in(({"a": one, "b": [two, "text"]}, 3, {"again": one, "c": (None, three)})))
    assert [float(tensor) for tensor in found] == [0.0, 1.0, 2.0]


def config(folder: Path) -> Any:
    data = write_clip(folder / "ball", num_frames=FRAMES + 2, size=48)
    changed: Any = copy.deepcopy(ntalker_base_small.config.pipeline)
    datamanager: Any = changed.datamanager
    datamanager.data = datamanager.dataparser.data = Path(data)
    datamanager.rays_per_step = 256
    datamanager.surroundings_interval = 2
    model: Any = changed.model
    model.backend = "reference"
    model.occlusion_interval = 2
    changed.target_samples = 4_000
    return changed


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    torch.manual_seed(0)
    made = config(tmp_path_factory.mktemp("clip")).setup(device="cpu", test_mode="val")
    for table in made.model.head.field.grid_parameters():
        torch.nn.init.normal_(table)
    made.model.pose_refinement.mark_trained(torch.arange(FRAMES))
    yield made.train()


def gradients(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def test_a_recorded_step_is_the_eager_one(
    pipeline: Any, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU: sizes are known before, and nothing is read from the device.
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    monkeypatch.setattr(recorded_steps, "AFTER", 2)
    model, steps = pipeline.model, RecordedSteps(pipeline.model, pipeline.recordable_step)
    for number in range(40):
        bundle, batch = pipeline.datamanager.next_train(number)
        each, options = bundle.counts[0], model.config
        bundle.step.sizes = pipeline.budget.sizes(each, options.max_samples, options.occlusion_interval)
        torch.manual_seed(number)
        _, expected, _ = pipeline.eager_step(bundle, batch)
        wanted = gradients(model, expected)
        torch.manual_seed(number)
        outputs, losses, _ = steps(bundle, batch, (bundle.step.sizes, model.head.field.active_levels))
        found = gradients(model, losses)
        pipeline.budget.note_capacity(each, outputs.get("max_frame_samples"))
        assert losses.keys() == expected.keys() and found.keys() == wanted.keys()
        for name, loss in expected.items():
            torch.testing.assert_close(losses[name], loss, msg=name)
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    # Rays beside the head or none, points behind the surface or none.
    assert len(recordings.replayed) > 20 and len(set(recordings.replayed)) == 4


class NoGraph:
    """In place of a CUDA graph: what was recorded stays as it was."""

    def replay(self) -> None:
        pass


def test_torch_records_a_step_and_its_gradients(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own recording, on a device that runs what it is told while it is recorded and replays nothing."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", NoGraph)
    for name in ("graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *given, **options: nullcontext())
    for name in ("Stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    # What gradients come from outside, which on a device is known at the replay.
    monkeypatch.setattr(torch, "empty_like", torch.ones_like)
    monkeypatch.setattr(recorded_steps, "AFTER", 1)
    model = pipeline.model

    def ask(bundle: RayBundle, batch: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        return pipeline.recordable_step(bundle, batch)

    bundle, batch = pipeline.datamanager.next_train(0)
    bundle.step.sizes = pipeline.budget.sizes(bundle.counts[0], model.config.max_samples, 1)
    _, expected, figures = ask(bundle, batch)
    wanted = gradients(model, expected)
    _, losses, metrics = RecordedSteps(model, ask)(bundle, batch, 0)
    found = gradients(model, losses)
    assert (losses.keys(), metrics.keys(), found.keys()) == (expected.keys(), figures.keys(), wanted.keys())
    for name, value in (expected | figures | wanted).items():
        torch.testing.assert_close((losses | metrics | found)[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_recorded_steps_do_not_accumulate(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(gradient_accumulation_steps={"grids": 2}, max_num_iterations=1)
    trainer: Any = SimpleNamespace(config=settings)
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=trainer)
    pipeline.get_training_callbacks(attributes)
    recorded = copy.copy(pipeline)
    recorded.budget = copy.copy(pipeline.budget)
    monkeypatch.setattr(TalkerPipeline, "device", torch.device("cuda"))
    recorded.record_steps(True)
    attributes.pipeline = recorded
    with pytest.raises(NTalkerError, match="record-steps"):
        recorded.get_training_callbacks(attributes)
    settings.gradient_accumulation_steps.clear()
    recorded.get_training_callbacks(attributes)


def test_steps_are_recorded_on_cuda_only(pipeline: Any) -> None:
    pipeline.record_steps(True)
    assert pipeline.budget.stride == 0.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on CUDA")
def test_a_gpu_replays_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[Any] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(graph) or replay(graph))
    torch.manual_seed(0)
    changed = config(tmp_path)
    changed.model.backend = "auto"
    pipeline = changed.setup(device="cuda", test_mode="val").train()
    pipeline.model.pose_refinement.mark_trained(torch.arange(FRAMES).cuda())
    pipeline.record_steps(True)
    for number in range(120):
        bundle, batch = pipeline.datamanager.next_train(number)
        with torch.autocast("cuda"):
            torch.manual_seed(number)
            _, losses, _ = pipeline.take_step(bundle, batch)
        found = gradients(pipeline.model, losses)
        torch.manual_seed(number)
        with torch.autocast("cuda"):
            _, expected, _ = pipeline.eager_step(bundle, batch)
        wanted = gradients(pipeline.model, expected)
        assert losses.keys() == expected.keys() and found.keys() == wanted.keys()
        for name, loss in expected.items():
            torch.testing.assert_close(losses[name], loss, rtol=1e-3, atol=1e-6, msg=name)
        for name, gradient in wanted.items():
            assert float((found[name] - gradient).norm()) <= 0.02 * float(gradient.norm()) + 1e-7, name
    # Forward and backward.
    assert len(replays) > 40
