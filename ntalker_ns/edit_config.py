"""What an edit is asked to do: of which head, by which words, by whom and how; and how that is resolved to a run."""

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.driving.new_audio import new_features
from ntalker_ns.edit_model import EditModelConfig
from ntalker_ns.edit_pipeline import EditPipelineConfig
from ntalker_ns.editing.diffusers_editor import DiffusersEditorConfig
from ntalker_ns.editing.editor import check_instruction
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.frames import evenly_spaced
from ntalker_ns.editing.instruct_pix2pix import InstructPix2PixConfig
from ntalker_ns.editing.plan import EditConfig, EditPlan, EditRegion, make_plan
from ntalker_ns.editing.presets import EditPreset, load_preset
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import Run, absolute, find_run, read_run
from ntalker_ns.talker_dataparser import find_source
from ntalker_ns.talker_model import TalkerModelConfig
from ntalker_ns.talker_trainer import TalkerTrainerConfig

AnyEditorConfig = (
    Annotated[InstructPix2PixConfig, tyro.conf.subcommand("ip2p")]
    | Annotated[DiffusersEditorConfig, tyro.conf.subcommand("diffusers")]
    | Annotated[FilterEditorConfig, tyro.conf.subcommand("filter")]
)
"""At the end of a command: editor:ip2p, editor:diffusers or editor:filter, and their own options."""


def _trainer() -> type:
    """The trainer of an edit, which itself imports this module."""
    from ntalker_ns.edit_trainer import EditTrainer

    return EditTrainer


@dataclass
class EditTrainerConfig(TalkerTrainerConfig):
    """An edit: of which head, by which words, by whom and how."""

    _target: type = field(default_factory=_trainer)
    """Target class to instantiate."""
    instruction: str = ""
    """What to change, such as "Make her look like a bronze statue"."""
    preset: str | None = None
    """An instruction with captions and bounds that somebody has found: a name (old-man, van-gogh, bronze-statue, ...)
    or a YAML file. --instruction and --edit.* have the last word; beside an instruction of one's own, the preset gives
    its bounds alone."""
    base: Path | None = None
    """The head to edit: a run folder, its config.yml or a checkpoint; it may be an edit itself. None takes the newest
    completed ntalker-base run under --output-dir."""
    audio: Path | None = None
    """What the head says while it is edited, a sound or video file; None takes its own clip."""
    edit_region: EditRegion = "frame"
    """What of an edited picture is learned: the head, the portrait (head and torso), or the whole frame. Elsewhere the
    picture stays the base's."""
    edit: EditConfig = field(default_factory=EditConfig)
    """Dataset updates and training."""
    editor: AnyEditorConfig = field(default_factory=InstructPix2PixConfig)
    """Who edits the frames."""
    captions: tuple[str, str] | None = None
    """What pictures show before and after, for the CLIP direction metric; None takes the preset's, if the
    instruction is the preset's too."""
    max_num_iterations: int = 0
    """Training steps; 0: as many as the epochs and frames make."""
    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """Pipeline configuration."""

    def set_timestamp(self) -> None:
        """Names the run and resolves what it edits, before the config is saved: afterwards it needs no base.

        Raises:
            NTalkerError: there is nothing to edit or to do, or an option cannot be.
        """
        source = self._source()
        if self.checkpoint_to_resume() is not None:
            assert isinstance(source.config, EditTrainerConfig)
            self._take_over_request(source.config)
        preset = self._resolve_instruction()
        plan = make_plan(self.edit, preset and preset.guidance, preset and preset.steps)
        # What the plan took from preset or paper is written down, so that the saved run says what was done.
        self.edit = dataclasses.replace(self.edit, guidance=plan.bounds[0], steps=plan.bounds[1])
        if plan.edit_before(0) is None:
            raise NTalkerError(
                f"--edit.strategy {self.edit.strategy} edits frames between steps on large patches, and there are "
                "none: give --edit.epochs at least 1."
            )
        self.editor.check(self.instruction)
        self._adopt(source)
        evenly_spaced(self.edit.num_frames, self._driving_frames(source))
        self.max_num_iterations = self.max_num_iterations or plan.total_steps
        super().set_timestamp()
        self._say(source)

    def plan(self) -> EditPlan:
        """What is edited when."""
        return make_plan(self.edit)

    def _take_over_request(self, saved: "EditTrainerConfig") -> None:
        """Takes what this command leaves open from the edit that it resumes; what it gives is compared later."""
        usual = usual_config(self.method_name)
        words = ("instruction",) if self.preset is None else ()
        for name in (*words, "captions", "audio", "edit_region", "edit", "editor"):
            setattr(self, name, given_or_saved(getattr(self, name), getattr(usual, name), getattr(saved, name)))
        model = given_or_saved(self.pipeline.model, usual.pipeline.model, saved.pipeline.model)
        self.pipeline = dataclasses.replace(self.pipeline, model=model)

    def _resolve_instruction(self) -> EditPreset | None:
        """Takes what the user leaves open from the preset."""
        preset = None if self.preset is None else load_preset(self.preset)
        if preset is not None:
            self.instruction = self.instruction or preset.instruction
            # What its captions say need not be true of another instruction.
            if self.instruction == preset.instruction:
                self.captions = self.captions or (preset.caption_before, preset.caption_after)
        self.instruction = check_instruction(self.instruction)
        if self.audio is not None:
            self.audio = absolute(self.audio)
            if not self.audio.is_file():
                raise NTalkerError(f"There is no file at {self.audio}: check --audio.")
        return preset

    def _source(self) -> Run:
        """The run whose head this one goes on from: its base, or where it is resumed, the run that was broken off."""
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
        if self.base is not None and absolute(self.base) not in {recorded, *recorded.parents, *_siblings(recorded)}:
            raise NTalkerError(f"The run to resume edits {recorded}, not {self.base}: leave --base out.")
        self.base = recorded
        return source

    def _adopt(self, source: Run) -> None:
        """Takes over what a head is made of, so that this run stands on its own."""
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
        self.pipeline = dataclasses.replace(self.pipeline, datamanager=datamanager, model=model)
        self.experiment_name = self.experiment_name or source.config.experiment_name

    def _driving_frames(self, source: Run) -> int:
        """How many frames drive the head while it is edited."""
        driving = source.driving()
        return len(driving) if self.audio is None else len(new_features(driving, self.audio))

    def _driving_writer(self) -> Callable[[Path], object]:
        """What copies the source's driving sequence to a folder."""
        driving = self.pipeline.datamanager.dataparser.driving
        assert driving is not None
        return partial(copy_folder, driving)

    def _say(self, source: Run) -> None:
        """Tells the user what is about to happen."""
        verb = "Resuming the edit" if isinstance(source.config, type(self)) and self.load_checkpoint else "Editing"
        # As it is: square brackets in an instruction are no markup.
        CONSOLE.out(
            f"{verb} {source.folder} ({source.steps} of {source.config.max_num_iterations} steps): "
            f'"{self.instruction}"\nEditor: {self.editor.describe(self.instruction)}'
        )


def usual_config(method: str | None) -> EditTrainerConfig:
    """What a method's command asks for where no option is given."""
    from ntalker_ns import method_configs  # It imports this module.

    known = [one.config for one in (method_configs.ntalker_edit, method_configs.ntalker_edit_small)]
    configs = [one for one in known if isinstance(one, EditTrainerConfig) and one.method_name == method]
    return configs[0] if configs else EditTrainerConfig(method_name=method)


def given_or_saved(given: Any, usual: Any, saved: Any) -> Any:
    """What a command gives, or where it leaves the usual, what a saved run has; configurations field by field.

    Args:
        given: a value of the command's configuration.
        usual: the same without any option; what is equal to it counts as not given.
        saved: the same in the saved run.
    """
    if given == usual:
        return saved
    if not dataclasses.is_dataclass(given) or isinstance(given, type) or type(given) is not type(saved):
        return given
    # The method's usual editor may be another one; then this one's own defaults are the usual.
    usual = usual if type(usual) is type(given) else type(given)()
    names = [one.name for one in dataclasses.fields(given)]
    values = {name: given_or_saved(getattr(given, name), getattr(usual, name), getattr(saved, name)) for name in names}
    return dataclasses.replace(given, **values)


def edited_model_config(wanted: EditModelConfig, base: TalkerModelConfig) -> EditModelConfig:
    """The configuration of an edited head.

    Args:
        wanted: what is the edit's own is taken from here.
        base: all the rest is taken from here.
    """
    shared = {one.name: getattr(base, one.name) for one in dataclasses.fields(TalkerModelConfig)}
    del shared["_target"]
    # The base's grids are all there; what is edited is the clip's own background.
    shared |= {"coarse_fraction": 0.0, "portrait": dataclasses.replace(base.portrait, background="plate")}
    return dataclasses.replace(wanted, **copy.deepcopy(shared))


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder so that it is there whole or not at all.

    Raises:
        NTalkerError: it is missing, or there is no room.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(source, unfinished)
        # A run that is resumed under its own name has a copy already.
        shutil.rmtree(target, ignore_errors=True)
        os.replace(unfinished, target)
    except (OSError, shutil.Error) as error:
        raise NTalkerError(f"{source} cannot be copied to {target} ({error}).") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _siblings(checkpoint: Path) -> tuple[Path, ...]:
    """Other names of the run that a checkpoint belongs to."""
    return (checkpoint.parent.parent / "config.yml",)
