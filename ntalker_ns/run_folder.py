"""The files of a run: its configuration, its driving sequence and its checkpoints.

Everything in a checkpoint is tensors and plain Python, so that the stock commands load it with `weights_only=True`.
"""

import os
import pickle
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor

from ntalker_ns import __version__
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.edit_process import EditBase
from ntalker_ns.errors import NTalkerError

DRIVING_FOLDER = "driving"
"""Where a run folder keeps its driving sequence."""
BASE_METHOD = "ntalker-splat"
"""The method that messages recommend for training."""
BASE_METHODS = ("ntalker-base", "ntalker-splat")
"""Prefixes of the methods whose newest run is edited."""
EDIT_METHOD = "ntalker-edit"
"""The method that edits them."""
BEFORE = "ntalker_ns before 0.2"
"""Versions whose runs do not record a version."""

_VERSION = re.compile(r"^version: (\S+)$", re.MULTILINE)
_NAME = re.compile(r"step-(\d+)\.ckpt")


@dataclass(frozen=True)
class Run:
    """A trained head on disk."""

    config: Any
    """Its `TalkerTrainerConfig`."""
    folder: Path
    """Absolute."""
    checkpoint: Path
    """Absolute."""

    @property
    def steps(self) -> int:
        """Training steps of the checkpoint."""
        return int(self.checkpoint.stem.removeprefix("step-")) + 1

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


def find_run(named: Path | None, output_dir: Path) -> Run:
    """The run that an edit starts from.

    Args:
        named: a run folder, its config.yml, or a checkpoint; None takes the newest completed run of an ntalker-base
            or ntalker-splat method under the output folder.
        output_dir: where runs are.

    Raises:
        NTalkerError: there is no such run.
    """
    if named is None:
        return newest_run(output_dir)
    path = absolute(named)
    if path.suffix == ".ckpt":
        if not path.is_file():
            raise NTalkerError(f"There is no checkpoint {path}: check --base.")
        return read_run(path.parent.parent, path)
    return read_run(path.parent if path.name == "config.yml" else path)


def edit_base(folder: Path) -> EditBase:
    """A run as the base of an edit in a process of its own; the edited run goes beside it.

    Args:
        folder: the run folder.

    Raises:
        NTalkerError: it has no checkpoint yet, or is no run.
    """
    run = read_run(absolute(folder))
    small = str(run.config.method_name).endswith("-small")
    above = run.folder.parents
    return EditBase(
        run.checkpoint,
        f"{EDIT_METHOD}-small" if small else EDIT_METHOD,
        above[min(2, len(above) - 1)],
        run.config.experiment_name or run.folder.name,
    )


def newest_run(output_dir: Path) -> Run:
    """The newest completed run of any `BASE_METHODS`, by the start times that run folders are named after.

    Raises:
        NTalkerError: there is none.
    """
    root = absolute(output_dir)
    configs = [path for method in BASE_METHODS for path in root.glob(f"*/{method}*/*/config.yml")]
    unfinished = 0
    for path in sorted(configs, key=lambda path: (path.parent.name, path), reverse=True):
        try:
            if (run := read_run(path.parent)).complete:
                return run
        except NTalkerError:
            pass
        unfinished += 1
    reason = f"the {unfinished} there are unfinished or broken" if unfinished else "there is none"
    raise NTalkerError(
        f"An edit needs a trained head, but under {root} {reason}: train one with ns-train {BASE_METHOD} --data DIR, "
        "or name one with --base."
    )


def read_run(folder: Path, checkpoint: Path | None = None) -> Run:
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
    return Run(config, folder, checkpoint or find_checkpoint(folder / config.relative_model_dir))


def load_run(load_config: Path) -> Any:
    """Loads a trained head for rendering, from wherever its run folder lies now; its data set is not needed.

    Args:
        load_config: the run's config.yml.

    Returns:
        Its `TalkerPipeline` in evaluation mode, with the newest checkpoint or that of the configuration's load_step.

    Raises:
        NTalkerError: there is no such file, it is no run of ours, or it has no checkpoint.
    """
    if not load_config.is_file():
        raise NTalkerError(f"There is no run at '{load_config}': give the config.yml that ns-train wrote.")
    config = read_config(load_config)
    # The folder that a config names may be there still, with another run's weights.
    models = load_config.resolve().parent / config.relative_model_dir
    if not models.is_dir():
        raise NTalkerError(f"'{load_config}' has no checkpoints, for there is no folder {models}: copy it there.")
    state = read_checkpoint(find_checkpoint(models, config.load_step))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = config.pipeline.setup(device=device, test_mode="inference")
    pipeline.eval()
    pipeline.load_pipeline(state["pipeline"], state["step"])
    return pipeline


def read_config(path: Path) -> Any:
    """Reads the configuration of a run that may have been moved, copied or renamed.

    Args:
        path: its config.yml.

    Returns:
        The `TalkerTrainerConfig` as it was saved, but with the driving sequence that lies beside it.

    Raises:
        NTalkerError: it cannot be read, it is no run of ours, or an earlier version wrote it.
    """
    try:
        text = path.read_text("utf8")
        config = yaml.load(text, Loader=yaml.Loader)
    except Exception as error:  # Any error of any class that the file names.
        if (sentence := written_by_earlier_version(error, f"{path}")) is not None:
            raise NTalkerError(sentence) from error
        reason = " ".join(str(error).split())[:200]
        raise NTalkerError(f"{path} cannot be read as a run's configuration ({reason}).") from error
    dataparser = getattr(getattr(getattr(config, "pipeline", None), "datamanager", None), "dataparser", None)
    if dataparser is None or not isinstance(config, TrainerConfig) or not hasattr(dataparser, "driving"):
        method = getattr(config, "method_name", None) or "none"
        raise NTalkerError(f"{path} is not the configuration of a talking head (its method: {method}).")
    check_version(config, f"{path}")
    dataparser.driving = path.resolve().parent / DRIVING_FOLDER
    return config


def check_version(config: Any, subject: str = "This run") -> None:
    """Refuses a run's configuration that was saved before configurations recorded their version.

    Args:
        config: a `TalkerTrainerConfig`.
        subject: how the sentence names it.

    Raises:
        NTalkerError: it was.
    """
    if "version" not in vars(config):
        raise NTalkerError(_other_version(subject, BEFORE))


def written_by_earlier_version(error: BaseException, subject: str = "This run") -> str | None:
    """The sentence for a run whose config.yml names classes of ours that are gone; None for any other error.

    Args:
        error: from reading a config.yml, by us or by a stock command.
        subject: how the sentence names the run.
    """
    if not isinstance(error, yaml.constructor.ConstructorError) or "ntalker_ns" not in f"{error.problem}":
        return None
    mark = error.problem_mark
    recorded = _VERSION.search((mark.buffer if mark else None) or "")
    return _other_version(subject, f"ntalker_ns {recorded[1]}" if recorded else BEFORE)


def _other_version(subject: str, version: str) -> str:
    return (
        f"{subject} was written by {version}, whose runs ntalker_ns {__version__} cannot read: train it again with "
        "ns-train, or install that version."
    )


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """All checkpoints in a run's `nerfstudio_models` folder.

    Args:
        folder: the folder that holds the checkpoints.

    Returns:
        Their paths by training step, first to last.

    Raises:
        NTalkerError: there is no such folder, or no checkpoint in it.
    """
    if not folder.is_dir():
        raise NTalkerError(f"There is no folder {folder} to load a checkpoint from: check --load-dir.")
    found = {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
    if not found:
        raise NTalkerError(
            f"The folder {folder} holds no checkpoint (step-*.ckpt): give a run's nerfstudio_models folder."
        )
    return dict(sorted(found.items()))


def find_checkpoint(folder: Path, step: int | None = None) -> Path:
    """The checkpoint of one step in a run's `nerfstudio_models` folder, or the newest.

    Args:
        folder: the folder that holds the checkpoints.
        step: training step it was written at; None for the newest.

    Returns:
        Its path.

    Raises:
        NTalkerError: there is no such folder, or no such checkpoint in it.
    """
    found = find_checkpoints(folder)
    if step is None:
        return found[max(found)]
    if step not in found:
        steps = ", ".join(map(str, found))
        raise NTalkerError(f"The folder {folder} holds no checkpoint of step {step}, only of {steps}.")
    return found[step]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint into CPU memory.

    Args:
        path: the checkpoint file.

    Returns:
        What `write_checkpoint` was given.

    Raises:
        NTalkerError: the file is missing, cut short, or no checkpoint.
    """
    if not path.is_file():
        raise NTalkerError(f"There is no checkpoint {path}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise NTalkerError(f"The checkpoint {path} cannot be read; it is cut short or no checkpoint.") from error
    if not isinstance(state, dict) or not {"step", "pipeline"} <= state.keys():
        raise NTalkerError(f"The file {path} is no checkpoint of a run: it holds no step or no pipeline.")
    return state


def write_checkpoint(state: Mapping[str, Any], path: Path, scratch: Path) -> None:
    """Writes a checkpoint so that it is there whole or not at all.

    Args:
        state: tensors and plain Python.
        path: where it is to be.
        scratch: a file name to write to first, on the same file system but outside the folder of `path`: nerfstudio
            takes every name in that folder for a checkpoint's.
    """
    try:
        torch.save(dict(state), scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def random_state() -> dict[str, Any]:
    """The state of every global random number generator, as tensors and plain Python.

    Returns:
        States of Python's, numpy's, torch's and each CUDA device's generator.
    """
    algorithm, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (algorithm, keys.tolist(), position, has_gauss, cached),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Puts every global random number generator back.

    Args:
        state: what `random_state` gave; CUDA states are used where as many devices are there.
    """
    random.setstate(state["python"])
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    """Makes sure that a checkpoint's tensors are exactly the model's.

    Args:
        found: the checkpoint's tensors by name.
        expected: the model's.
        origin: what the checkpoint is called in the message.

    Raises:
        NTalkerError: a tensor is missing, unknown or of another shape; the message names it.
    """
    complaints = [
        _complaint("lacks", sorted(expected.keys() - found.keys())),
        _complaint("has the unknown", sorted(found.keys() - expected.keys())),
        _complaint(
            "has another shape of",
            [
                f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
                for name in sorted(found.keys() & expected.keys())
                if found[name].shape != expected[name].shape
            ],
        ),
    ]
    reasons = "; it ".join(complaint for complaint in complaints if complaint)
    if reasons:
        raise NTalkerError(
            f"{origin} does not fit this model: it {reasons}. "
            "It belongs to another version or configuration: load it with its own run's config.yml."
        )


def _complaint(verb: str, names: list[str], shown: int = 4) -> str:
    """`verb` and the first few names, or nothing where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{verb} {', '.join(names[:shown])}{more}"


def absolute(path: Path) -> Path:
    """The path from the root, `~` expanded; symbolic links stay, since runs are named after their data's folder."""
    return Path(os.path.abspath(path.expanduser()))


def discard_start(run: Path, checkpoints: Path) -> None:
    """Removes what the start of a run wrote, unless it has been trained.

    Args:
        run: the run folder.
        checkpoints: its folder of checkpoints.
    """
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        return
    shutil.rmtree(run / DRIVING_FOLDER, ignore_errors=True)
    (run / "config.yml").unlink(missing_ok=True)
    remove_empty_folders(run)


def remove_empty_folders(run: Path) -> None:
    """Removes a run folder and the two above it (method and experiment), as far as they are empty."""
    for folder in [run, *run.parents][:3]:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
