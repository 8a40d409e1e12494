"""Trainings that are stepped from outside: ours, and nerfacto on the same frames."""

from pathlib import Path
from typing import Any

import torch

from ntalker_ns import runs
from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import find_checkpoint, read_checkpoint, read_config
from scripts.benchmarks.peer import nerfacto_config, without_download


class Training:
    """A nerfstudio run of any method, one step at a time; no checkpoint is written."""

    def __init__(self, config: Any) -> None:
        """
        Args:
            config: a trainer configuration after `runs.prepare`.
        """
        torch.manual_seed(config.machine.seed)
        self.config = config
        self.trainer = config.setup(local_rank=0, world_size=1)
        self.trainer.setup()
        self.pipeline = self.trainer.pipeline
        self.model = self.pipeline.model
        self.device = torch.device(self.trainer.device)
        self.steps = int(self.trainer._start_step)
        """Steps that were trained."""

    def step(self) -> dict[str, Any]:
        """Trains a step as nerfstudio's trainer does, and gives its metrics."""
        from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

        self.pipeline.train()
        for callback in self.trainer.callbacks:
            callback.run_callback_at_location(self.steps, location=Location.BEFORE_TRAIN_ITERATION)
        metrics = self.trainer.train_iteration(self.steps)[2]
        for callback in self.trainer.callbacks:
            callback.run_callback_at_location(self.steps, location=Location.AFTER_TRAIN_ITERATION)
        self.steps += 1
        return metrics

    def run(self, steps: int, description: str) -> None:
        """Trains some steps under a progress bar."""
        for _ in track(range(steps), description):
            self.step()


def start_ours(method: str, data: Path, output_dir: Path, device: torch.device, **changes: Any) -> Training:
    """Our method before its first step.

    Args:
        method: its name.
        data: data set.
        output_dir: where its run folder goes.
        device: where it trains.
        changes: fields of the method's configuration that are to be others.

    Raises:
        NTalkerError: the data cannot be used.
    """
    config = runs.method_config(method, data=data, output_dir=output_dir, **changes)
    config.machine.device_type = device.type
    runs.prepare(config)
    return Training(config)


def resume_ours(load_config: Path, output_dir: Path, device: torch.device) -> Training:
    """A run of ours, to be trained on from its newest checkpoint.

    Args:
        load_config: the run's config.yml.
        output_dir: where the folder of the continued run goes.
        device: where it trains.

    Raises:
        NTalkerError: there is no such run, or it has no checkpoint.
    """
    if not load_config.is_file():
        raise NTalkerError(f"There is no run at '{load_config}': give the config.yml that ns-train wrote.")
    config: Any = read_config(load_config)
    checkpoint = find_checkpoint(load_config.parent / config.relative_model_dir)
    config.load_dir, config.load_step, config.load_checkpoint = None, None, checkpoint
    config.data, config.output_dir = config.pipeline.datamanager.data, output_dir
    # By its old time it would be found where it was trained, and its config overwritten.
    config.timestamp = "{timestamp}"
    config.machine.device_type = device.type
    # The schedules keep the end that they had; only the number of steps left must not be zero, of which no more are
    # coarse.
    config.max_num_iterations *= 10
    config.pipeline.model.coarse_fraction = 0.0
    runs.prepare(config)
    training = Training(config)
    training.pipeline.load_training_state(read_checkpoint(checkpoint)["training"]["pipeline"])
    return training


def start_nerfacto(ours: Any, rays: int) -> Training:
    """nerfacto before its first step, on the frames of a run of ours.

    Args:
        ours: prepared configuration of one of our methods; nerfacto's run folder goes to its `output_dir`.
        rays: rays of a step.
    """
    config = nerfacto_config(ours, rays)
    runs.prepare(config)
    with without_download():
        return Training(config)
