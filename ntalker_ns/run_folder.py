"""Checkpoint files: found, read, written in one piece, compared with the model they are meant for.

Everything in a checkpoint is tensors and plain Python, so that the stock commands load it with `weights_only=True`.
"""

import os
import pickle
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntalker_ns.errors import NTalkerError

DRIVING_FOLDER = "driving"
"""Where a run folder keeps its driving sequence."""


_NAME = re.compile(r"step-(\d+)\.ckpt")


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
