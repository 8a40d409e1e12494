"""The run that an edit starts from: found, checked, and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nerfstudio.pipelines.base_pipeline import Pipeline

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import DRIVING_FOLDER, absolute, find_checkpoint
from ntalker_ns.talker_trainer import TalkerTrainerConfig

BASE_METHOD = "ntalker-base"
"""Beginning of the names of the methods whose newest run is edited."""


@dataclass(frozen=True)
class BaseRun:
    """A trained head."""

    config: TalkerTrainerConfig
    folder: Path
    """Absolute."""
    checkpoint: Path
    """Absolute."""

    @property
    def steps(self) -> int:
        """Training steps that the checkpoint has."""
        return steps_of(self.checkpoint)

    @property
    def complete(self) -> bool:
        """Whether it was trained to its end."""
        return self.steps >= self.config.max_num_iterations

    @property
    def driving_folder(self) -> Path:
        """Its driving sequence, where the run lies now."""
        return self.folder / DRIVING_FOLDER

    def driving(self) -> DrivingSequence:
        """Its driving sequence.

        Raises:
            NTalkerError: it is missing or broken.
        """
        return DrivingSequence.load(self.driving_folder)


def find_base(named: Path | None, output_dir: Path) -> BaseRun:
    """The run to edit.

    Args:
        named: a run folder, its config.yml, or a checkpoint; None takes the newest completed run of an ntalker-base
            method under the output folder.
        output_dir: where runs are.

    Raises:
        NTalkerError: there is no such run.
    """
    if named is None:
        return newest_base(output_dir)
    path = absolute(named)
    if path.suffix == ".ckpt":
        if not path.is_file():
            raise NTalkerError(f"There is no checkpoint {path}: check --base.")
        return read_run(path.parent.parent, path)
    return read_run(path.parent if path.name == "config.yml" else path)


def newest_base(output_dir: Path) -> BaseRun:
    """The newest completed run of any ntalker-base method: run folders are named after when they began.

    Raises:
        NTalkerError: there is none.
    """
    place = absolute(output_dir)
    found = sorted(
        place.glob(f"*/{BASE_METHOD}*/*/config.yml"), key=lambda path: (path.parent.name, path), reverse=True
    )
    unfinished = 0
    for path in found:
        try:
            run = read_run(path.parent)
        except NTalkerError:
            unfinished += 1
            continue
        if run.complete:
            return run
        unfinished += 1
    reason = f"the {unfinished} there are unfinished or broken" if unfinished else "there is none"
    raise NTalkerError(
        f"An edit needs a trained head, but under {place} {reason}: train one with ns-train {BASE_METHOD} --data DIR, "
        "or name one with --base."
    )


def read_run(folder: Path, checkpoint: Path | None = None) -> BaseRun:
    """Reads a run's configuration.

    Args:
        folder: the run folder.
        checkpoint: in it; None takes the newest.

    Raises:
        NTalkerError: it is no run of ours, or it has no checkpoint.
    """
    path = folder / "config.yml"
    if not path.is_file():
        raise NTalkerError(f"There is no run at {folder} (no config.yml): check --base.")
    config = read_config(path)
    models = folder / config.relative_model_dir
    return BaseRun(config, folder, checkpoint or find_checkpoint(models))


def read_config(path: Path) -> TalkerTrainerConfig:
    """Reads the configuration of a run that may have been moved, copied or renamed.

    Args:
        path: its config.yml.

    Returns:
        The configuration as it was saved, but with the driving sequence that lies beside it.

    Raises:
        NTalkerError: it cannot be read, or it is no run of ours.
    """
    try:
        config: Any = yaml.load(path.read_text("utf8"), Loader=yaml.Loader)
    except Exception as error:  # Any error of any class that the file names.
        reason = " ".join(str(error).split())[:200]
        raise NTalkerError(f"{path} cannot be read as a run's configuration ({reason}).") from error
    if not isinstance(config, TalkerTrainerConfig):
        method = getattr(config, "method_name", None) or "none"
        raise NTalkerError(f"{path} is not the configuration of a talking head (its method: {method}).")
    config.pipeline.datamanager.dataparser.driving = path.resolve().parent / DRIVING_FOLDER
    return config


def steps_of(checkpoint: Path) -> int:
    """How many steps a checkpoint has, by its name."""
    return int(checkpoint.stem.removeprefix("step-")) + 1


def load_run(load_config: Path) -> tuple[Any, Pipeline]:
    """Loads a trained head for rendering, from wherever its run folder lies now; its data set is not needed.

    Args:
        load_config: the run's config.yml.

    Returns:
        The run's configuration and its pipeline in evaluation mode.

    Raises:
        NTalkerError: there is no such file, it is no run of ours, or it has no checkpoint.
    """
    import torch

    from ntalker_ns.run_folder import find_checkpoint, read_checkpoint
    from ntalker_ns.runs import read_config

    if not load_config.is_file():
        raise NTalkerError(f"There is no run at '{load_config}': give the config.yml that ns-train wrote.")
    config = read_config(load_config)
    # The folder that a config names may be there still, with another run's weights.
    models = load_config.resolve().parent / config.relative_model_dir
    if not models.is_dir():
        raise NTalkerError(f"'{load_config}' has no checkpoints, for there is no folder {models}: copy it there.")
    state = read_checkpoint(find_checkpoint(models, config.load_step))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline: Any = config.pipeline.setup(device=device, test_mode="inference")
    pipeline.eval()
    pipeline.load_pipeline(state["pipeline"], state["step"])
    return config, pipeline
