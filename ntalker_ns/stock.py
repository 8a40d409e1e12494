"""What we change in stock nerfstudio, and why.

- `print_as_sentence` replaces `sys.excepthook`: errors that a user can mend end `ns-*` commands with a sentence; their
  entry points are not ours.
- `SelfContainedRunConfig` resolves a config before it is saved, so that a run can be rendered, resumed and edited on
  another machine, from another folder or without its data set.
- `lend_remaining_steps` makes a resumed run end at `max_num_iterations`; nerfstudio trains that many steps more.
- `NonBlockingGradScaler` hides the scale of the loss; reading it, twice per step, waits for the GPU.

Elsewhere: `TalkerPipeline` wraps the model for several processes on CPUs, since nerfstudio's wrapper needs CUDA;
`viewer.start` places the viewer's camera, since nerfstudio's starts inside the head, and gives the viewer alone a model
that shows its panel's choices: nerfstudio renders training frames and views through the same method.
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch.amp.grad_scaler import GradScaler

from ntalker_ns.driving.build import write_driving
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import check_folder
from ntalker_ns.run_folder import DRIVING_FOLDER, absolute, check_version, find_checkpoint, remove_empty_folders
from ntalker_ns.talker_dataparser import read_training_clip
from ntalker_ns.talker_pipeline import TalkerPipelineConfig
from ntalker_ns.training.schedulers import CosineDecayConfig


def print_as_sentence(explain: Callable[[BaseException], str | None] = lambda error: None) -> None:
    """Makes an uncaught `NTalkerError` end a program with its sentence and exit code 1, and Ctrl-C with a word.

    For the `ns-*` commands, whose entry points are not ours. Every other exception is shown as before.

    Args:
        explain: gives a sentence for other errors that users can mend, None for the rest.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sentence = str(error) if isinstance(error, NTalkerError) else explain(error)
        if isinstance(error, KeyboardInterrupt):
            print("Interrupted.", file=sys.stderr)
        elif sentence is not None:
            print(f"Error: {sentence}", file=sys.stderr)
        else:
            previous(kind, error, traceback)

    sys.excepthook = hook


@dataclass
class SelfContainedRunConfig(TrainerConfig):
    """A run whose saved config does not depend on where and on which machine it was started."""

    pipeline: TalkerPipelineConfig = dataclasses.field(default_factory=TalkerPipelineConfig)
    """Pipeline configuration."""

    def set_timestamp(self) -> None:
        """Names the run and resolves what depends on the machine and the data.

        That is the device, absolute paths, the checkpoint to resume from, the end of the learning-rate schedules, and
        the driving sequence, which is written into the run folder because data parsers run before checkpoints are read.

        Here, because nerfstudio saves the config right after.

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
        """Falls back from CUDA to the CPU."""
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
        """Replaces --load-dir and --load-step by the checkpoint's path.

        nerfstudio's commands take `load_step` of a saved config for a step of the run itself.
        """
        self.load_checkpoint = self.checkpoint_to_resume()
        self.load_dir = self.load_step = None
        if self.load_checkpoint is not None and not self.load_checkpoint.is_file():
            raise NTalkerError(f"There is no checkpoint {self.load_checkpoint}: check --load-checkpoint.")

    def _with_end(self, group: dict[str, Any]) -> dict[str, Any]:
        """An optimiser group whose schedule ends with the run, unless its end is configured."""
        scheduler = group["scheduler"]
        if isinstance(scheduler, CosineDecayConfig) and scheduler.max_steps is None:
            return {**group, "scheduler": dataclasses.replace(scheduler, max_steps=self.max_num_iterations)}
        return group

    def _resolve_data(self) -> None:
        """Makes the data's path absolute in both places where nerfstudio reads it."""
        datamanager = self.pipeline.datamanager
        data = datamanager.data or datamanager.dataparser.data
        if datamanager.data is None and data == Path():
            raise NTalkerError("There is no data to train on: give --data with the folder that ntalker process wrote.")
        datamanager.data = datamanager.dataparser.data = absolute(data)

    def _start_folder(self, is_new: bool) -> None:
        """Makes the run folder with its driving sequence; if that fails, removes it."""
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
        """Checks the data and returns what writes their driving sequence to a folder; None if it exists."""
        dataparser = self.pipeline.datamanager.dataparser
        if dataparser.driving is None:
            return partial(write_driving, *read_training_clip(dataparser))
        dataparser.driving = absolute(dataparser.driving)
        return None

    def _claim_folder(self) -> None:
        """Makes a run folder of its own: runs that start within one second have the same time stamp."""
        time, count = self.timestamp, 1
        while True:
            try:
                return self.get_base_dir().mkdir(parents=True)
            except FileExistsError:
                count += 1
                self.timestamp = f"{time}-{count}"

    def get_base_dir(self) -> Path:
        """The run folder: under output_dir or, from another working directory, where it was written."""
        run = super().get_base_dir()
        driving = self.pipeline.datamanager.dataparser.driving
        if driving is None or run.exists():
            return run
        written = Path(driving).parent
        return written if written.is_dir() and written.parts[-3:] == run.parts[-3:] else run

    def get_checkpoint_dir(self) -> Path:
        """The folder of checkpoints.

        nerfstudio's commands call this before they build the data manager, so this is where the driving sequence of a
        moved or copied run is found, and where runs of earlier versions are refused.

        Raises:
            NTalkerError: an earlier version wrote the run.
        """
        check_version(self)
        local = absolute(self.get_base_dir()) / DRIVING_FOLDER
        if local.is_dir():
            self.pipeline.datamanager.dataparser.driving = local
        return super().get_checkpoint_dir()


def lend_remaining_steps(trainer: Trainer) -> None:
    """Gives `Trainer.train` the remaining number of steps.

    It reads `max_num_iterations` once, before its first step, and runs that many steps more when it resumes. The first
    callback restores the planned number for those who read it during training.
    """
    config, first = trainer.config, trainer._start_step
    planned = config.max_num_iterations

    def restore(step: int) -> None:
        config.max_num_iterations = planned

    trainer.callbacks.insert(
        0, TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], restore, iters=(first,))
    )
    config.max_num_iterations = planned - first


class NonBlockingGradScaler(GradScaler):
    """A scaler of the loss whose scale cannot be read in training, which would wait for the step's end.

    nerfstudio reads it twice a step, to keep the learning rates where a step overflowed. Here they follow the number of
    steps, overflowed ones included.
    """

    def get_scale(self) -> float:
        """Always 1; the scale is in `state_dict`."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """The true scale and growth tracker."""
        state = super().state_dict()
        return state | ({"scale": super().get_scale()} if state else {})
