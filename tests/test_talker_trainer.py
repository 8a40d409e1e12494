"""Starting, saving and resuming runs on a made-up clip."""

import shutil
import signal
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.tiny_clip import write_tiny_clip
from support.tiny_run import start, tiny_config, train, weights

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import discard_start, find_checkpoint, read_checkpoint
from ntalker_ns.talker_trainer import TalkerTrainer, TalkerTrainerConfig, resuming_command
from ntalker_ns.training.interruption import Interrupted
from ntalker_ns.training.schedulers import CosineDecayConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("data") / "anna")


def test_a_start_writes_a_self_contained_run(data: Path, tmp_path: Path):
    config = tiny_config(data, tmp_path / "outputs")
    config.set_timestamp()
    config.save_config()
    saved = yaml.load((config.get_base_dir() / "config.yml").read_text(), Loader=yaml.Loader)
    folder = saved.pipeline.datamanager.dataparser.driving
    assert folder.is_absolute()
    assert folder.parent == config.get_base_dir()
    assert len(DrivingSequence.load(folder)) == 22
    assert saved.pipeline.datamanager.data.is_absolute()
    assert saved.machine.device_type == "cpu"
    assert saved.optimizers["grids"]["scheduler"] == CosineDecayConfig(max_steps=8)
    assert not (config.get_base_dir() / "nerfstudio_models").exists()


def test_runs_that_start_together_have_different_folders(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Noon":
            return cls(2026, 1, 1, 12, tzinfo=tz)

    monkeypatch.setattr("nerfstudio.configs.experiment_config.datetime", Noon)
    configs = [tiny_config(data, tmp_path / "outputs") for _ in range(3)]
    for config in configs:
        config.set_timestamp()
    assert [config.timestamp for config in configs] == [f"2026-01-01_120000{end}" for end in ("", "-2", "-3")]
    assert all((config.get_base_dir() / "driving").is_dir() for config in configs)
    configs[1].set_timestamp()
    assert configs[1].timestamp == "2026-01-01_120000-2"


def test_without_cuda_a_run_uses_the_cpu_in_full_precision(data: Path, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny_config(data, tmp_path / "outputs", mixed_precision=True)
    config.machine.device_type = "cuda"
    config.set_timestamp()
    assert config.machine.device_type == "cpu"
    assert not config.mixed_precision
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = tiny_config(data, tmp_path / "outputs", mixed_precision=True)
    config.machine.device_type = "cuda"
    config.set_timestamp()
    assert config.machine.device_type == "cuda"
    assert config.mixed_precision


def test_presets_are_not_changed_by_a_start(data: Path, tmp_path: Path):
    config = tiny_config(data, tmp_path / "outputs")
    groups, machine = config.optimizers, config.machine
    config.set_timestamp()
    assert all(group["scheduler"].max_steps is None for group in groups.values())
    assert config.machine == machine


def test_failed_starts_leave_nothing_behind(data: Path, tmp_path: Path):
    outputs = tmp_path / "outputs"
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    (broken / "images" / "00003.jpg").unlink()
    with pytest.raises(NTalkerError, match=r"00003\.jpg"):
        tiny_config(broken, outputs).set_timestamp()
    with pytest.raises(NTalkerError, match="nowhere"):
        tiny_config(tmp_path / "nowhere", outputs).set_timestamp()
    with pytest.raises(NTalkerError, match="holds no checkpoint"):
        tiny_config(data, outputs, load_dir=tmp_path).set_timestamp()
    with pytest.raises(NTalkerError, match=r"no checkpoint .*gone\.ckpt"):
        tiny_config(data, outputs, load_checkpoint=tmp_path / "gone.ckpt").set_timestamp()
    config = tiny_config(data, outputs)
    config.pipeline.datamanager.data = None
    with pytest.raises(NTalkerError, match="--data"):
        config.set_timestamp()
    with pytest.raises(NTalkerError, match=r"00000\.jpg: Not a directory\); choose another --output-dir"):
        tiny_config(data, data / "images" / "00000.jpg").set_timestamp()
    for steps in (0, -3):
        with pytest.raises(NTalkerError, match=f"--max-num-iterations {steps} is not possible"):
            tiny_config(data, outputs, max_num_iterations=steps).set_timestamp()
    assert not outputs.exists()


@pytest.mark.parametrize("backend", ["tcnn", "triton"])
def test_a_backend_of_another_device_leaves_no_run(data: Path, tmp_path: Path, backend: str, monkeypatch: Any):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    config = tiny_config(data, tmp_path)
    config.pipeline.model.backend = backend  # type: ignore[assignment]
    with pytest.raises(NTalkerError, match=f'"{backend}" cannot be used here: it runs on cuda, not on cpu'):
        start(config)
    assert not list(tmp_path.iterdir())


def test_training_saves_one_checkpoint_that_loads_weights_only(data: Path, tmp_path: Path):
    trainer = train(tiny_config(data, tmp_path / "outputs", steps_per_save=3))
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000007.ckpt"]
    assert not list(trainer.base_dir.glob("*.part"))
    state = torch.load(trainer.checkpoint_dir / "step-000000007.ckpt", weights_only=True)
    assert type(state["optimizers"]["grids"]["param_groups"][0]["lr"]) is float
    assert state["schedulers"]["grids"]["last_epoch"] == 8


def test_a_save_that_fails_keeps_the_checkpoint_before_it(data: Path, tmp_path: Path, monkeypatch: Any):
    trainer = train(tiny_config(data, tmp_path / "outputs", max_num_iterations=2))

    def full_disk(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        trainer.save_checkpoint(5)
    assert find_checkpoint(trainer.checkpoint_dir).name == "step-000000001.ckpt"
    assert not list(trainer.base_dir.glob("*.part"))


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(data: Path, tmp_path: Path):
    evaluated = {"max_num_iterations": 11, "steps_per_eval_image": 3, "steps_per_eval_batch": 4}
    every_save = {"steps_per_save": 6, "save_only_latest_checkpoint": False}
    whole = train(tiny_config(data, tmp_path / "whole", **evaluated, **every_save))
    steps = []
    resumed = start(tiny_config(data, tmp_path / "resumed", load_dir=whole.checkpoint_dir, load_step=6, **evaluated))
    step = resumed.train_iteration

    def counted(number: int) -> Any:
        steps.append((number, resumed.config.max_num_iterations))
        return step(number)

    resumed.train_iteration = counted  # type: ignore[method-assign]
    resumed.train()
    assert steps == [(7, 11), (8, 11), (9, 11), (10, 11)]
    assert find_checkpoint(resumed.checkpoint_dir).name == "step-000000010.ckpt"
    expected, found = weights(whole), weights(resumed)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=name)
    ends = [read_checkpoint(find_checkpoint(run.checkpoint_dir)) for run in (whole, resumed)]
    assert torch.equal(ends[0]["training"]["random"]["torch"], ends[1]["training"]["random"]["torch"])
    assert ends[0]["training"]["pipeline"]["samples_per_ray"] == pytest.approx(
        ends[1]["training"]["pipeline"]["samples_per_ray"]
    )


@pytest.mark.slow
def test_resuming_is_not_training_on_with_other_random_numbers(data: Path, tmp_path: Path):
    """Guards the test above: without sampler and random state, three more steps end elsewhere."""
    whole = train(tiny_config(data, tmp_path / "whole", steps_per_save=4, save_only_latest_checkpoint=False))
    resumed = start(tiny_config(data, tmp_path / "resumed", load_dir=whole.checkpoint_dir, load_step=4))
    resumed._resumed = None
    resumed.train()
    expected, found = weights(whole), weights(resumed)
    assert any(not torch.allclose(found[name].float(), value.float(), rtol=1e-5) for name, value in expected.items())


def test_runs_that_cannot_be_resumed_say_why_and_leave_nothing(data: Path, tmp_path: Path):
    done = train(tiny_config(data, tmp_path / "done", max_num_iterations=2))
    outputs = tmp_path / "outputs"
    models = done.checkpoint_dir
    with pytest.raises(NTalkerError, match=r"has 2 of 2 steps.*larger --max-num-iterations"):
        start(tiny_config(data, outputs, load_dir=models, max_num_iterations=2))
    other = write_tiny_clip(tmp_path / "wide", channels=9)
    with pytest.raises(NTalkerError, match=r"6 channels.* of 9"):
        start(tiny_config(other, outputs, load_dir=models))
    config = tiny_config(data, outputs, load_dir=models)
    config.pipeline.model.field.num_levels = 5  # type: ignore[attr-defined]
    with pytest.raises(NTalkerError, match="another shape of"):
        start(config)
    assert not [path for path in outputs.rglob("*") if path.name in ("config.yml", "driving")]


def test_a_run_from_a_cpu_resumes_with_a_loss_scaler(data: Path, tmp_path: Path):
    """Half precision on a GPU has a scaler, which float32 has not."""
    begun = train(tiny_config(data, tmp_path / "begun", max_num_iterations=2))
    config = tiny_config(data, tmp_path / "outputs", load_dir=begun.checkpoint_dir, max_num_iterations=3)
    config.set_timestamp()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer.setup()
    assert trainer._start_step == 2 and trainer.grad_scaler.get_scale() == 4.0


def test_the_current_device_is_the_process_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    config = tiny_config(data, tmp_path)
    TalkerTrainer(config, local_rank=1, world_size=2)
    assert not chosen
    config.machine.device_type = "cuda"
    TalkerTrainer(config, local_rank=1, world_size=2)
    assert chosen == ["cuda:1"]


def test_a_trained_run_is_not_discarded(tmp_path: Path):
    run, models = tmp_path / "run", tmp_path / "run" / "models"
    models.mkdir(parents=True)
    for name in ("config.yml", "models/step-000000001.ckpt"):
        (run / name).touch()
    discard_start(run, models)
    assert (run / "config.yml").exists()
    (models / "step-000000001.ckpt").unlink()
    discard_start(run, models)
    assert not (run / "config.yml").exists()


def test_a_run_is_found_from_elsewhere_and_after_a_move(data: Path, tmp_path: Path, monkeypatch: Any):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    config = tiny_config(data, Path("outputs"))
    config.set_timestamp()
    config.save_config()
    run = tmp_path / "home" / config.get_base_dir()
    text = (run / "config.yml").read_text()
    monkeypatch.chdir(tmp_path)
    seen = yaml.load(text, Loader=yaml.Loader)
    assert seen.get_checkpoint_dir() == run / "nerfstudio_models"
    (tmp_path / "home").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    seen = yaml.load(text, Loader=yaml.Loader)
    assert seen.get_checkpoint_dir().absolute() == tmp_path / "moved" / run.relative_to(tmp_path / "home") / (
        "nerfstudio_models"
    )
    driving = seen.pipeline.datamanager.dataparser.driving
    assert driving.is_dir()
    assert driving.is_relative_to(tmp_path / "moved")


def test_training_evaluates_and_quits_at_its_end():
    config = TalkerTrainerConfig(method_name="ntalker-base")
    assert config.viewer.quit_on_train_completion
    assert config.is_viewer_enabled()
    assert config.is_tensorboard_enabled()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_says_how_to_go_on(
    data: Path, tmp_path: Path, number: signal.Signals, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
):
    before = signal.getsignal(number)
    whole = train(tiny_config(data, tmp_path / "whole", max_num_iterations=6))
    broken = start(tiny_config(data, tmp_path / "broken", max_num_iterations=6))
    step = TalkerTrainer.train_iteration
    monkeypatch.setattr(
        TalkerTrainer,
        "train_iteration",
        lambda self, at: (signal.raise_signal(number) if at == 3 else None, step(self, at))[1],
    )
    monkeypatch.setattr(sys, "argv", ["ns-train", "ntalker-base-small", "--data", "a b", "--load-dir=old"])
    with pytest.raises(Interrupted) as ended:
        broken.train()
    monkeypatch.undo()
    assert ended.value.code == 128 + number
    said = capsys.readouterr().err
    assert "Interrupted after 4 of 6 steps" in said and "Traceback" not in said
    assert f"ns-train ntalker-base-small --load-dir {broken.checkpoint_dir} --data 'a b'" in said
    assert signal.getsignal(number) is before
    resumed = train(tiny_config(data, tmp_path / "resumed", max_num_iterations=6, load_dir=broken.checkpoint_dir))
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_a_run_interrupted_before_its_first_step_is_removed(data: Path, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_config(data, tmp_path / "runs"))
    monkeypatch.setattr(TalkerTrainer, "train_iteration", lambda self, step: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        trainer.train()
    assert list(tmp_path.rglob("config.yml")) + list(tmp_path.rglob("driving")) == []


def test_the_command_that_goes_on_loads_once():
    old = ["ns-train", "m", "--load-step", "3", "--edit.epochs", "2", "--load-dir", "x", "editor:filter"]
    assert resuming_command("m", old, Path("y")) == "ns-train m --load-dir y --edit.epochs 2 editor:filter"
    assert resuming_command("m", ["python", "train.py"], Path("y z")) == "train with --load-dir 'y z'."


def test_checkpoints_are_written_by_time_too(data: Path, tmp_path: Path, monkeypatch: Any):
    saved: list[int] = []
    save = TalkerTrainer.save_checkpoint
    monkeypatch.setattr(TalkerTrainer, "save_checkpoint", lambda self, step: (saved.append(step), save(self, step))[1])
    train(tiny_config(data, tmp_path, max_num_iterations=3, minutes_per_save=0.0))
    assert saved == [0, 1, 2, 2]
    assert TalkerTrainerConfig().minutes_per_save <= 10.0
