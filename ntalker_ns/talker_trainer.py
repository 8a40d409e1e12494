"""Trainer: starts a run that stands on its own, saves it in one piece, resumes it where it stopped."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns import __version__
from ntalker_ns.driving.build import write_driving
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import check_folder
from ntalker_ns.run_folder import (
    DRIVING_FOLDER,
    absolute,
    check_version,
    discard_start,
    find_checkpoint,
    random_state,
    read_checkpoint,
    remove_empty_folders,
    set_random_state,
    write_checkpoint,
)
from ntalker_ns.talker_dataparser import read_training_clip
from ntalker_ns.talker_pipeline import TalkerPipeline, TalkerPipelineConfig
from ntalker_ns.training.optimizers import NonBlockingGradScaler
from ntalker_ns.training.schedulers import WarmupDecayConfig
from ntalker_ns.training.threads import limit_threads


@dataclass
class TalkerTrainerConfig(TrainerConfig):
    """A run: what it trains on, where it is kept, what can be resolved before anything is built."""

    _target: type = field(default_factory=lambda: TalkerTrainer)
    """Target class to instantiate."""
    vis: Literal[
        "viewer",
        "wandb",
        "tensorboard",
        "comet",
        "viewer+wandb",
        "viewer+tensorboard",
        "viewer+comet",
        "viewer_legacy",
    ] = "viewer+tensorboard"
    """Which visualiser to use. Held-out frames are scored during training with every choice but "viewer"."""
    pipeline: TalkerPipelineConfig = field(default_factory=TalkerPipelineConfig)
    """Pipeline configuration."""
    viewer: ViewerConfig = field(default_factory=lambda: ViewerConfig(quit_on_train_completion=True))
    """Viewer configuration. Training ends when it is done; ns-viewer shows the run afterwards."""
    version: Annotated[str, tyro.conf.Suppress] = __version__
    """The version of ntalker_ns that writes the run."""

    def set_timestamp(self) -> None:
        """Names the run and resolves, before the config is saved, what depends on the machine and the data.

        That is the device, paths (made absolute), the checkpoint to resume from, the end of the learning-rate
        schedules, and the driving sequence, which is written into the run folder because a data parser runs before
        any checkpoint is read.

        Raises:
            NTalkerError: no steps, no data, data that cannot be read, no checkpoint where one is named, or an output
                folder that cannot be written to.
        """
        if self.max_num_iterations < 1:
            raise NTalkerError(f"--max-num-iterations {self.max_num_iterations} is not possible; give at least 1.")
        placeholder = self.timestamp
        super().set_timestamp()
        self._choose_device()
        self._resolve_checkpoint()
        self.optimizers = {name: self._with_end(group) for name, group in self.optimizers.items()}
        self._resolve_data()
        self._start_folder(is_new=self.timestamp != placeholder)

    def _choose_device(self) -> None:
        """CUDA where it is there, the CPU where it is not."""
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            CONSOLE.print("There is no CUDA device: training on the CPU.")
            self.machine = dataclasses.replace(self.machine, device_type="cpu")
        if self.machine.device_type != "cuda":
            self.mixed_precision = False

    def checkpoint_to_resume(self) -> Path | None:
        """The checkpoint that --load-checkpoint or --load-dir (and --load-step) name, if any."""
        if self.load_dir is not None:
            return find_checkpoint(absolute(self.load_dir), self.load_step)
        return None if self.load_checkpoint is None else absolute(self.load_checkpoint)

    def _resolve_checkpoint(self) -> None:
        """Replaces --load-dir and --load-step by the file they mean.

        The stock commands take `load_step` of a saved config for a step of the run itself and would not find it.
        """
        self.load_checkpoint = self.checkpoint_to_resume()
        self.load_dir = self.load_step = None
        if self.load_checkpoint is not None and not self.load_checkpoint.is_file():
            raise NTalkerError(f"There is no checkpoint {self.load_checkpoint}: check --load-checkpoint.")

    def _with_end(self, group: dict[str, Any]) -> dict[str, Any]:
        """An optimiser group whose schedule ends with the run where it names no end of its own."""
        scheduler = group["scheduler"]
        if isinstance(scheduler, WarmupDecayConfig) and scheduler.max_steps is None:
            return {**group, "scheduler": dataclasses.replace(scheduler, max_steps=self.max_num_iterations)}
        return group

    def _resolve_data(self) -> None:
        """Makes the path of the data absolute, in each of the places where nerfstudio looks for it."""
        datamanager = self.pipeline.datamanager
        data = datamanager.data or datamanager.dataparser.data
        if datamanager.data is None and data == Path():
            raise NTalkerError("There is no data to train on: give --data with the folder that ntalker process wrote.")
        datamanager.data = datamanager.dataparser.data = absolute(data)

    def _start_folder(self, is_new: bool) -> None:
        """Makes the run folder with its driving sequence; a start that fails leaves no folder behind."""
        check_folder(self.get_base_dir().parent, "--output-dir")
        write = self._driving_writer()
        if is_new:
            self._claim_folder()
        if write is None:
            return
        run = absolute(self.get_base_dir())
        try:
            write(run / DRIVING_FOLDER)
        except BaseException:
            remove_empty_folders(run)
            raise
        self.pipeline.datamanager.dataparser.driving = run / DRIVING_FOLDER

    def _driving_writer(self) -> Callable[[Path], object] | None:
        """What writes the driving sequence to a folder, its data having been found good; None: it is written."""
        dataparser = self.pipeline.datamanager.dataparser
        if dataparser.driving is None:
            return partial(write_driving, *read_training_clip(dataparser))
        dataparser.driving = absolute(dataparser.driving)
        return None

    def _claim_folder(self) -> None:
        """Makes a run folder that no other run has: two that begin in one second have one time."""
        time, count = self.timestamp, 1
        while True:
            try:
                return self.get_base_dir().mkdir(parents=True)
            except FileExistsError:
                count += 1
                self.timestamp = f"{time}-{count}"

    def get_base_dir(self) -> Path:
        """The run folder: under output_dir, or, seen from another working directory, where it was written."""
        run = super().get_base_dir()
        driving = self.pipeline.datamanager.dataparser.driving
        if driving is None or run.exists():
            return run
        written = Path(driving).parent
        return written if written.is_dir() and written.parts[-3:] == run.parts[-3:] else run

    def get_checkpoint_dir(self) -> Path:
        """The folder of checkpoints.

        The stock commands ask for it before they build the data manager, so that here is the place to find the
        driving sequence of a run that was moved or copied, and to refuse one of an earlier version.

        Raises:
            NTalkerError: an earlier version wrote the run.
        """
        check_version(self)
        local = absolute(self.get_base_dir()) / DRIVING_FOLDER
        if local.is_dir():
            self.pipeline.datamanager.dataparser.driving = local
        return super().get_checkpoint_dir()


class TalkerTrainer(Trainer):
    """nerfstudio's trainer with whole checkpoints and exact resumption."""

    config: TalkerTrainerConfig
    pipeline: TalkerPipeline  # type: ignore[assignment]

    def __init__(self, config: TalkerTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        """
        Args:
            config: of the run.
            local_rank: this process.
            world_size: how many there are.
        """
        super().__init__(config, local_rank, world_size)
        if torch.device(self.device).type == "cuda":
            # What names no device means this one; with --machine.num-devices nobody else says so.
            torch.cuda.set_device(self.device)
        self.grad_scaler = NonBlockingGradScaler(enabled=self.use_grad_scaler)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Builds everything; where that ends in a sentence for the user, the run folder goes again.

        Args:
            test_mode: which frames the data manager takes for evaluation.
        """
        self._resumed: dict[str, Any] | None = None
        try:
            super().setup(test_mode)
        except NTalkerError:
            discard_start(self.base_dir, self.checkpoint_dir)
            raise

    def train(self) -> None:
        """Trains up to `max_num_iterations`.

        Stock runs that many steps more when it resumes. It reads the number once, before the first step: it is given
        the remaining steps, and whoever reads the config during training finds the planned number again.
        """
        if self._resumed is not None:
            self._restore(self._resumed)
        planned = self.config.max_num_iterations

        def put_planned_back(step: int) -> None:
            self.config.max_num_iterations = planned

        first = TrainingCallback(
            [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], put_planned_back, iters=(self._start_step,)
        )
        self.callbacks.insert(0, first)
        self.config.max_num_iterations = planned - self._start_step
        super().train()

    def train_iteration(self, step: int) -> Any:
        """A training step, on the cores that are free for it.

        Args:
            step: training step.
        """
        with limit_threads(torch.device(self.device).type):
            return super().train_iteration(step)

    def _load_checkpoint(self) -> None:
        """Loads the checkpoint to resume from, if the config names one.

        Raises:
            NTalkerError: it cannot be read, does not fit, or has no steps left to run.
        """
        path = self.config.checkpoint_to_resume()
        if path is None:
            return
        state = read_checkpoint(path)
        self._start_step = state["step"] + 1
        if self._start_step >= self.config.max_num_iterations:
            raise NTalkerError(
                f"The checkpoint {path} has {self._start_step} of {self.config.max_num_iterations} steps: "
                f"give a larger --max-num-iterations to train on."
            )
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        if state["optimizers"].keys() != self.optimizers.optimizers.keys():
            raise NTalkerError(
                f"The checkpoint {path} has optimisers for {', '.join(state['optimizers'])}, "
                f"this configuration for {', '.join(self.optimizers.optimizers)}: resume it with its own."
            )
        self.optimizers.load_optimizers(state["optimizers"])
        if self.config.load_scheduler:
            self.optimizers.load_schedulers(state["schedulers"])
        # Empty where the run was on a CPU, which scales nothing.
        if state["scalers"]:
            self.grad_scaler.load_state_dict(state["scalers"])
        self._resumed = state["training"]
        CONSOLE.out(f"Resuming {path} at step {self._start_step} of {self.config.max_num_iterations}.")

    def _restore(self, training: dict[str, Any]) -> None:
        """Puts sampler and random number generators back where the checkpoint was written.

        Several processes must not share one random state: there each keeps the seed nerfstudio gave it.
        """
        self.pipeline.load_training_state(training["pipeline"])
        if self.world_size == 1:
            set_random_state(training["random"])

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes a checkpoint in one piece and then removes the older ones, if only the latest is kept.

        Args:
            step: training step that was done last; -1 before the first, under the first one's name.
        """
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        path = self.checkpoint_dir / f"step-{max(step, 0):09d}.ckpt"
        state = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {name: one.state_dict() for name, one in self.optimizers.optimizers.items()},
            "schedulers": {name: one.state_dict() for name, one in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "training": {"random": random_state(), "pipeline": self.pipeline.training_state()},
        }
        write_checkpoint(state, path, scratch=self.base_dir / "checkpoint.part")
        if self.config.save_only_latest_checkpoint:
            for older in set(self.checkpoint_dir.glob("step-*.ckpt")) - {path}:
                older.unlink()
