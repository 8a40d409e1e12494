"""Trainer: self-contained runs, atomic checkpoints, exact resumption."""

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns import __version__, stock
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import (
    discard_start,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)
from ntalker_ns.stock import SelfContainedRunConfig
from ntalker_ns.talker_pipeline import TalkerPipeline, TalkerPipelineConfig
from ntalker_ns.training.interruption import Interrupted, Interruption, interruptible
from ntalker_ns.training.threads import limit_threads
from ntalker_ns.training.versioned import count_writes

UNTRAINED = "Interrupted before the first step: nothing is kept."


@dataclass
class TalkerTrainerConfig(SelfContainedRunConfig):
    """A training run of a talking head."""

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
    minutes_per_save: float = 10.0
    """Minutes after which a checkpoint is written, beside those of --steps-per-save."""
    steps_per_eval_batch: int = 0
    """Steps between losses of random held-out pixels; 0: none."""
    viewer: ViewerConfig = field(
        default_factory=lambda: ViewerConfig(quit_on_train_completion=True, max_num_display_images=0)
    )
    """Viewer configuration. Training ends when it is done; ns-viewer shows the run afterwards. The training cameras are
    not shown: they surround the viewer's own, for the head is fixed in the world."""
    version: Annotated[str, tyro.conf.Suppress] = __version__
    """The version of ntalker_ns that writes the run."""


class TalkerTrainer(Trainer):
    """nerfstudio's trainer with atomic checkpoints and exact resumption."""

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
            # nerfstudio does not set the current device, which --machine.num-devices needs.
            torch.cuda.set_device(self.device)
        self.grad_scaler = stock.NonBlockingGradScaler(enabled=self.use_grad_scaler)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Builds everything; removes the run folder if that is interrupted or raises an `NTalkerError`.

        Args:
            test_mode: which frames the data manager takes for evaluation.
        """
        self._resumed: dict[str, Any] | None = None
        self._last_step: int | None = None
        self._saved_at = time.monotonic()
        self.interruption = Interruption()
        try:
            with interruptible() if self.world_size == 1 else nullcontext():
                super().setup(test_mode)
        except (NTalkerError, Interrupted) as error:
            discard_start(self.base_dir, self.checkpoint_dir)
            if isinstance(error, Interrupted):
                print(UNTRAINED, file=sys.stderr)
            raise
        self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._after_step))
        for optimizer in self.optimizers.optimizers.values():
            # Whichever the user configured: fused ones do not raise their parameters' versions.
            count_writes(optimizer)

    def train(self) -> None:
        """Trains up to `max_num_iterations`.

        Raises:
            Interrupted: by Ctrl-C or SIGTERM; all steps done are saved, and how to go on is said.
        """
        if self._resumed is not None:
            self._restore(self._resumed)
        stock.lend_remaining_steps(self)
        if self.world_size > 1:
            # The processes would not stop after the same step.
            super().train()
            return
        with interruptible() as self.interruption:
            try:
                super().train()
            except Interrupted:
                self._leave()
                raise

    def _after_step(self, step: int) -> None:
        """Saves if it is time to, and stops if that was asked."""
        self._last_step = step
        self.interruption.in_steps = True
        self.interruption.check()
        if time.monotonic() - self._saved_at > 60.0 * self.config.minutes_per_save:
            self.save_checkpoint(step)

    def _train_complete_viewer(self) -> None:
        """Shows the trained head until Ctrl-C."""
        self.interruption.in_steps = False
        super()._train_complete_viewer()

    def _leave(self) -> None:
        """Saves an interrupted run, and says how to go on."""
        if self.training_state == "completed":
            return
        if self._last_step is not None:
            self.save_checkpoint(self._last_step)
        if not (self.checkpoint_dir.is_dir() and any(self.checkpoint_dir.iterdir())):
            discard_start(self.base_dir, self.checkpoint_dir)
            print(UNTRAINED, file=sys.stderr)
            return
        done = self._start_step if self._last_step is None else self._last_step + 1
        print(
            f"Interrupted after {done} of {self.config.max_num_iterations} steps, which are saved. To go on: "
            f"{resuming_command(str(self.config.method_name), sys.argv, self.checkpoint_dir)}",
            file=sys.stderr,
        )

    def train_iteration(self, step: int) -> Any:
        """A training step, on the free cores.

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
        # Empty if the run was on a CPU, without a scaler.
        if state["scalers"]:
            self.grad_scaler.load_state_dict(state["scalers"])
        self._resumed = state["training"]
        CONSOLE.out(f"Resuming {path} at step {self._start_step} of {self.config.max_num_iterations}.")

    def _restore(self, training: dict[str, Any]) -> None:
        """Restores the states of sampler and random number generators.

        Several processes must not share a random state: each keeps its seed from nerfstudio.
        """
        self.pipeline.load_training_state(training["pipeline"])
        if self.world_size == 1:
            set_random_state(training["random"])

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes a checkpoint atomically, then removes the older ones if only the latest is kept.

        Args:
            step: last training step; -1 before the first, stored under the first one's name.
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
        self._saved_at = time.monotonic()
        if self.config.save_only_latest_checkpoint:
            for older in set(self.checkpoint_dir.glob("step-*.ckpt")) - {path}:
                older.unlink()


def resuming_command(method: str, arguments: Sequence[str], checkpoints: Path) -> str:
    """What continues an interrupted run.

    Args:
        method: its name.
        arguments: of the program that was interrupted, its name first.
        checkpoints: the run's folder of them.
    """
    typed = list(arguments[1:])
    if typed[:1] != [method]:
        return f"train with --load-dir {shlex.quote(str(checkpoints))}."
    # The options of a trainer come before those of its sub-commands.
    for option in ("--load-dir", "--load-checkpoint", "--load-step"):
        typed = _without(typed, option)
    return shlex.join(["ns-train", method, "--load-dir", str(checkpoints), *typed[1:]])


def _without(typed: list[str], option: str) -> list[str]:
    """Arguments without an option and its value."""
    names = (option, option.replace("-", "_").replace("__", "--", 1))
    kept, skip = [], False
    for each in typed:
        if not skip and not each.startswith(tuple(f"{name}=" for name in names)) and each not in names:
            kept.append(each)
        skip = not skip and each in names
    return kept
