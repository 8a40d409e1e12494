"""Trainer of an edit: its command line, what that is resolved to before the run starts, and the hooks of the loop.

The loop itself is `ntalker_ns.editing.dataset_update`.
"""

import copy
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int64
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE
from numpy import ndarray
from torch import Tensor

from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_model import EditModelConfig
from ntalker_ns.edit_pipeline import EditPipeline, EditPipelineConfig
from ntalker_ns.editing.dataset_update import DatasetUpdate
from ntalker_ns.editing.editor import check_instruction
from ntalker_ns.editing.editors import AnyEditorConfig
from ntalker_ns.editing.frames import Supervision, edit_indices
from ntalker_ns.editing.instruct_pix2pix import InstructPix2PixConfig
from ntalker_ns.editing.plan import EditConfig, EditOutline, EditPlan, EditRegion, make_plan
from ntalker_ns.editing.presets import EditPreset, load_preset
from ntalker_ns.editing.progress import ProgressWriter, Work
from ntalker_ns.editing.store import EditStore
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import written_whole
from ntalker_ns.run_folder import (
    DRIVING_FOLDER,
    Run,
    absolute,
    find_run,
    read_checkpoint,
    read_run,
    remove_empty_folders,
)
from ntalker_ns.talker_dataparser import find_source
from ntalker_ns.talker_model import TalkerModelConfig
from ntalker_ns.talker_trainer import TalkerTrainer, TalkerTrainerConfig
from ntalker_ns.training import distributed

STORE_FOLDER = "edit"
"""Folder of a run with its edited frames and contact sheets."""
REQUEST = ("instruction", "captions", "audio", "edit_region", "edit_outline", "edit", "editor")
"""Fields that a resumed edit takes from the interrupted run unless they are given; those of the model too."""

SPARE = 0.3
"""Gaussians that an edit has to place where it adds detail or to the outline, over those of the base."""

RELOCATED_EVERY = 30
"""Steps between two relocations of some of them."""


@dataclass
class EditTrainerConfig(TalkerTrainerConfig):
    """An edit of a trained head by an instruction."""

    _target: type = field(default_factory=lambda: EditTrainer)
    """Target class to instantiate."""
    instruction: str = ""
    """What to change, such as "Make her look like a bronze statue"."""
    preset: str | None = None
    """An instruction with captions and bounds that work for it: a name (old-man, van-gogh, bronze-statue, ...) or a
    YAML file. --instruction and --edit.* override it; with an instruction of your own only its bounds are used."""
    base: Path | None = None
    """The head to edit: a run folder, its config.yml or a checkpoint; it may be an edit itself. None: the newest
    completed ntalker-base or ntalker-splat run under --output-dir."""
    audio: Path | None = None
    """Sound or video file that drives the head while it is edited; None: its own clip."""
    edit_region: EditRegion = "frame"
    """The region of the edited frames that is learned: the head, the portrait (head and torso), or the whole frame.
    Elsewhere the head keeps its unedited colours."""
    edit_outline: EditOutline = "keep"
    """keep: the head's opacity is held everywhere, and what an edit paints beside it is background. free: what an edit
    paints beside the head and joined to it (hair, a hat, a beard) becomes part of it, and the head ends where an edit
    takes it away; everywhere else opacities are held, so that backgrounds can be replaced."""
    edit: EditConfig = field(default_factory=EditConfig)
    """Dataset updates and training."""
    editor: AnyEditorConfig = field(default_factory=InstructPix2PixConfig)
    """The editor of the frames."""
    captions: tuple[str, str] | None = None
    """Captions of the head before and after the edit, for the CLIP direction metric; None: the preset's, if the
    instruction is the preset's too."""
    steps_per_eval_image: int = 0
    """Steps between scores of a held-out frame; 0: none."""
    steps_per_eval_all_images: int = 0
    """Steps between scores of all held-out frames; 0: none."""
    max_num_iterations: int = 0
    """Training steps; 0: as many as the epochs and frames require."""
    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """Pipeline configuration."""

    def set_timestamp(self) -> None:
        """Names the run and resolves what it edits before the config is saved: afterwards the run needs no base.

        Raises:
            NTalkerError: there is nothing to edit or to train, or an option is invalid.
        """
        source = self._source()
        if self.checkpoint_to_resume() is not None:
            self._complete_from(source.config)
        preset = self._resolve_instruction()
        if self.max_num_iterations and self.checkpoint_to_resume() is None:
            self.edit = dataclasses.replace(self.edit, scaled_steps=self.max_num_iterations)
        plan = make_plan(self.edit, preset and preset.guidance, preset and preset.steps)
        # The saved run records the bounds, wherever they came from.
        self.edit = dataclasses.replace(self.edit, guidance=plan.bounds[0], steps=plan.bounds[1])
        if plan.update_before(0) is None:
            raise NTalkerError(
                f"--edit.strategy {self.edit.strategy} edits frames between steps on large patches, and there are "
                "none: give --edit.epochs at least 1."
            )
        if self.edit_outline == "free" and self.edit.strategy == "iterative":
            raise NTalkerError(
                "--edit-outline free needs updates of all frames: choose --edit.strategy progressive or one-time."
            )
        self.editor.check(self.instruction)
        self._adopt(source)
        self.edit = self.edit.fitted(len(self.editable(self._sequence(source.driving()))))
        plan = self.plan()
        self.max_num_iterations = self.max_num_iterations or plan.total_steps
        super().set_timestamp()
        if plan.dropped:
            numbers = ", ".join(map(str, plan.dropped))
            CONSOLE.print(
                f"[yellow]Too few steps for {self.edit.updates} updates: number {numbers} would fall on the step of a "
                "stronger one and is not made. Give more --max-num-iterations or --edit.epochs.[/yellow]"
            )
        verb = "Resuming the edit" if isinstance(source.config, type(self)) and self.load_checkpoint else "Editing"
        # `out` prints square brackets of an instruction as they are.
        CONSOLE.out(
            f"{verb} {source.folder} ({source.steps} of {source.config.max_num_iterations} steps): "
            f'"{self.instruction}"\nEditor: {self.editor.describe(self.instruction)}'
        )

    def plan(self) -> EditPlan:
        """The schedule of the edit."""
        return make_plan(self.edit)

    def _complete_from(self, interrupted: "EditTrainerConfig") -> None:
        """Takes the request of the interrupted edit, except for what this command gives."""
        request = [name for name in REQUEST if name != "instruction" or self.preset is None]
        saved = {name: getattr(interrupted, name) for name in request}
        pipeline = dataclasses.replace(self.pipeline, model=interrupted.pipeline.model)
        given = with_typed_options(dataclasses.replace(self, **saved, pipeline=pipeline), sys.argv[1:])
        if given is None:
            # Configured in Python, every field counts as given; only an instruction may be missing.
            self.instruction = self.instruction or saved.get("instruction", "")
            return
        for name in request:
            setattr(self, name, getattr(given, name))
        self.pipeline = dataclasses.replace(self.pipeline, model=given.pipeline.model)

    def _resolve_instruction(self) -> EditPreset | None:
        """Takes from the preset what the user does not give."""
        preset = None if self.preset is None else load_preset(self.preset)
        if preset is not None:
            self.instruction = self.instruction or preset.instruction
            # The preset's captions may be wrong for another instruction.
            if self.instruction == preset.instruction:
                self.captions = self.captions or (preset.caption_before, preset.caption_after)
        self.instruction = check_instruction(self.instruction or self.editor.default_instruction())
        if self.audio is not None:
            self.audio = absolute(self.audio)
            if not self.audio.is_file():
                raise NTalkerError(f"There is no file at {self.audio}: check --audio.")
        return preset

    def _source(self) -> Run:
        """The run whose weights this one starts from: its base, or the interrupted edit that it resumes."""
        resumed = self.checkpoint_to_resume()
        if resumed is None:
            source = find_run(self.base, self.output_dir)
            self.base = source.checkpoint
            return source
        source = read_run(resumed.parent.parent, resumed)
        if not isinstance(source.config, EditTrainerConfig):
            raise NTalkerError(f"{resumed} is not of an edit, so none can be resumed from it: name it with --base.")
        recorded = source.config.base
        assert recorded is not None
        names = {recorded, *recorded.parents, recorded.parent.parent / "config.yml"}
        if self.base is not None and absolute(self.base) not in names:
            raise NTalkerError(f"The run to resume edits {recorded}, not {self.base}: leave --base out.")
        self.base = recorded
        return source

    def _adopt(self, source: Run) -> None:
        """Takes over the head's configuration and driving sequence, so that this run does not need its base."""
        given = self.pipeline.datamanager.data
        theirs = source.config.pipeline
        datamanager = copy.deepcopy(theirs.datamanager)
        datamanager.dataparser.driving = source.driving_folder
        if given is not None:
            datamanager.dataparser.data = absolute(given)
            if find_source(datamanager.dataparser).clip is None:
                raise NTalkerError(
                    f"{given} is not the data set that {source.folder} was trained on: leave --data out, an edit needs "
                    "the checkpoint alone."
                )
            datamanager.data = absolute(given)
        model = edited_model_config(self.pipeline.model, theirs.model)
        if model.splats is not None and self.checkpoint_to_resume() is None:
            count = round((1.0 + SPARE) * model.splats.num_gaussians)
            often = min(model.splats.relocation_interval, RELOCATED_EVERY)
            model.splats = dataclasses.replace(model.splats, num_gaussians=count, relocation_interval=often)
        self.pipeline = dataclasses.replace(self.pipeline, datamanager=datamanager, model=model)
        self.experiment_name = self.experiment_name or source.config.experiment_name

    def _sequence(self, own: DrivingSequence) -> DrivingSequence:
        """The sequence that drives the head while it is edited: its clip, or new audio."""
        return own if self.audio is None else sequence_for_audio(own, self.audio)

    def editable(self, driving: DrivingSequence) -> Int64[ndarray, " n"]:
        """Frames of a driving sequence that may be edited.

        Args:
            driving: of `_sequence`.
        """
        return np.flatnonzero(driving.track.is_train) if self.edit.hold_out else np.arange(len(driving))

    def _driving_writer(self) -> Callable[[Path], object]:
        """Copies the source's driving sequence into a folder."""
        driving = self.pipeline.datamanager.dataparser.driving
        assert driving is not None
        return partial(copy_folder, driving)


def with_typed_options(config: EditTrainerConfig, arguments: Sequence[str]) -> EditTrainerConfig | None:
    """A configuration overridden by the options of the command line, and by those alone.

    ns-train's parser has filled in the method's defaults, which hides what the user typed. Parsing the same arguments
    again with another configuration as the default brings it out: an option typed with its default value counts.

    Args:
        config: gives the values of all options that were not typed.
        arguments: of the command line, without the program's name.

    Returns:
        None if the arguments do not start this method.
    """
    if list(arguments[:1]) != [config.method_name]:
        return None
    options = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[type(config)]]  # As nerfstudio's own parser.
    return tyro.cli(options, default=config, args=list(arguments[1:]))


def edited_model_config(wanted: EditModelConfig, base: TalkerModelConfig) -> EditModelConfig:
    """The configuration of an edited head: the base's, with the fields that only edits have from `wanted`."""
    shared = {one.name: getattr(base, one.name) for one in dataclasses.fields(TalkerModelConfig)}
    del shared["_target"]
    # All levels of the base's grids are trained already, and an edit is of the clip's own background.
    shared |= {"coarse_fraction": 0.0, "portrait": dataclasses.replace(base.portrait, background="plate")}
    return dataclasses.replace(wanted, **copy.deepcopy(shared))


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder atomically, replacing an older copy.

    Raises:
        NTalkerError: it is missing, or the disk is full.
    """
    try:
        with written_whole(target) as unfinished:
            shutil.copytree(source, unfinished)
            # A run resumed under its own name has a copy already.
            shutil.rmtree(target, ignore_errors=True)
    except (OSError, shutil.Error) as error:
        raise NTalkerError(f"{source} cannot be copied to {target} ({error}).") from error


class EditTrainer(TalkerTrainer):
    """Trains on edited frames, and lets the dataset update continue when its next step has come."""

    config: EditTrainerConfig
    pipeline: EditPipeline  # type: ignore[assignment]

    def _load_checkpoint(self) -> None:
        """Loads the base's weights, or those of the interrupted edit, and prepares the dataset update.

        Raises:
            NTalkerError: a checkpoint does not fit, or something that the edit needs is missing.
        """
        self.stop_training = False
        self.pipeline.load_features()
        if self.config.checkpoint_to_resume() is None:
            assert self.config.base is not None
            self.pipeline.load_base(read_checkpoint(self.config.base)["pipeline"])
        else:
            super()._load_checkpoint()
        self.pipeline.reset_small_refinement()
        self.dataset_update = self._make_dataset_update()
        plan, frames = self.dataset_update.plan, len(self.dataset_update.indices)
        updates = len(list(plan.updates(self._start_step, self.config.max_num_iterations)))
        steps = self.config.max_num_iterations - self._start_step
        whole = plan.config.strategy != "iterative"
        each = frames if whole else 1
        self._progress = ProgressWriter(
            self.dataset_update.store.folder,
            {"render": frames + (updates - 1) * each, "edit": updates * each, "train": steps},
        )
        self._loop = self.dataset_update.run(self._start_step, self.config.max_num_iterations)
        self._train_until: int | None = self._start_step

    # Stock holds `train_lock` during a training step, and the viewer renders under it. An update takes minutes: it runs
    # in the two hooks that stock calls without the lock, so that the viewer stays alive meanwhile.

    def _init_viewer_state(self) -> None:
        """Stock calls this before the first training step."""
        super()._init_viewer_state()
        self._continue_loop(self._start_step)

    def _update_viewer_state(self, step: int) -> None:
        """Stock calls this after each training step."""
        super()._update_viewer_state(step)
        self._continue_loop(step + 1)

    def _continue_loop(self, step: int) -> None:
        """Lets the dataset update continue if it waits for this training step."""
        try:
            while self._train_until is not None and self._train_until <= step:
                self._train_until = next(self._loop, None)
        except NTalkerError as error:
            edited = self.dataset_update.store.newest_of_all("edited", step)
            if not edited and self._start_step == 0:
                shutil.rmtree(self.base_dir, ignore_errors=True)
                remove_empty_folders(self.base_dir)
                raise
            raise NTalkerError(
                f"{str(error).rstrip('.')}, and resume with --load-dir {self.checkpoint_dir}, which keeps all work "
                "done so far."
            ) from error

    def _make_dataset_update(self) -> DatasetUpdate:
        driving = self._driving()
        self.pipeline.drive(driving)
        indices = edit_indices(self.config.edit.frames, self.config.editable(driving))
        cameras = sequence_cameras(driving, indices, self.config.pipeline.datamanager.dataparser.image_size)
        resumed = self.config.checkpoint_to_resume()
        return DatasetUpdate(
            head=self,
            editor=self.config.editor.setup(),
            batch_size=self.config.editor.batch_size,
            device=torch.device(self.device),
            instruction=self.config.instruction,
            region=self.config.edit_region,
            outline=self.config.edit_outline,
            plan=self.config.plan(),
            driving=driving,
            indices=indices,
            cameras=cameras,
            plate=self.pipeline.plate(cameras[0:1]),
            store=EditStore.open(
                absolute(self.base_dir) / STORE_FOLDER,
                self._description(indices),
                None if resumed is None else resumed.parent.parent / STORE_FOLDER,
                self._start_step,
            ),
        )

    def _driving(self) -> DrivingSequence:
        """The sequence that drives the head while it is edited: its clip, or new audio."""
        return self.config._sequence(DrivingSequence.load(absolute(self.base_dir) / DRIVING_FOLDER))

    def _description(self, indices: Int64[ndarray, " n"]) -> dict[str, Any]:
        """Everything that stored pictures depend on."""
        config = self.config.edit
        return {
            "instruction": self.config.instruction,
            "base": str(self.config.base),
            "audio": str(self.config.audio),
            "region": self.config.edit_region,
            "outline": self.config.edit_outline,
            "editor": self.config.editor.describe(self.config.instruction),
            **{f"editor.{name}": value for name, value in self.config.editor.result_settings().items()},
            "frames": indices.tolist(),
            **{name: getattr(config, name) for name in ("strategy", "updates", "epochs", "interval", "noise", "seed")},
            "guidance": config.guidance,
            "steps": config.steps,
        }

    # What the dataset update needs of its trainer, see `HeadInTraining`.

    @property
    def head_device(self) -> torch.device:
        """See `MovableHead`."""
        return self.pipeline.device

    def move_head(self, device: torch.device) -> None:
        """See `MovableHead`."""
        with self.train_lock:
            self.pipeline.model.to(device)

    def render(self, camera: Any) -> dict[str, Tensor]:
        """See `HeadInTraining`; only this holds the lock, so that the viewer renders between the frames."""
        with self.train_lock:
            return self.pipeline.render(camera)

    def surface(self, camera: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `HeadInTraining`."""
        with self.train_lock:
            return self.pipeline.model.surface(camera, outputs)  # type: ignore[operator]

    def beside(self, camera: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `HeadInTraining`."""
        with self.train_lock:
            return self.pipeline.model.beside(camera, outputs)  # type: ignore[operator]

    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """See `HeadInTraining`."""
        with self.train_lock:
            self.pipeline.extend_outline(views)

    def lip_shapes(self, frames: Int64[ndarray, " n"]) -> Float[ndarray, "n lip_dim"]:
        """See `HeadInTraining`."""
        with self.train_lock:
            return self.pipeline.lip_shapes(frames)

    def distil_refinement(self, cameras: Any) -> float:
        """See `HeadInTraining`."""
        with self.train_lock:
            return self.pipeline.distil_refinement(cameras)

    def supervise(self, supervision: Supervision) -> None:
        """See `HeadInTraining`."""
        self.pipeline.supervision = supervision

    def note(self, work: Work, count: int, phase: str, done: int, total: int) -> None:
        """See `HeadInTraining`."""
        if distributed.rank() == 0:
            self._progress.note(work, count, phase, done, total)

    def wait_while_paused(self) -> None:
        """See `HeadInTraining`: the viewer's pause button, and `shutdown`."""
        while self.training_state == "paused" and not self.stop_training:
            time.sleep(0.05)
        self.interruption.check()
        if self.stop_training:
            raise KeyboardInterrupt

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes a checkpoint and removes edited frames that only older checkpoints need.

        Args:
            step: training step that was done last; -1 before the first.
        """
        super().save_checkpoint(step)
        if self.config.save_only_latest_checkpoint:
            self.dataset_update.store.prune(step + 1)

    def train_iteration(self, step: int) -> Any:
        """A training step; the first one, and the first on lips, report the weighted terms of the loss.

        Args:
            step: training step.
        """
        loss, losses, metrics = super().train_iteration(step)
        self.note("train", 1, "Training on the edited frames", step + 1, self.config.max_num_iterations)
        if step in (0, self.dataset_update.plan.lip_start):
            terms = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
            CONSOLE.print(f"Weighted losses at step {step}: {terms}.")
            limit = 10.0 * float(losses["reconstruction"])
            large = [name for name in losses if name != "discriminator" and float(losses[name]) > limit]
            if large:
                CONSOLE.print(f"[yellow]More than ten times the reconstruction: {', '.join(large)}.[/yellow]")
        return loss, losses, metrics
