"""A user's own bank: what other data sets on this machine teach the prior over speakers.

An entry for each data set (`NAME.npz`). It holds sums over its frames, which the prior's regression is refined with;
no picture, no sound, and nothing leaves the machine.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import partial_path
from ntalker_ns.speech.prior import LipPrior, window_inputs

FORMAT = 1

SAME = 0.5
"""Part of a film's frames that an entry must know to be of the same film."""


@dataclass(frozen=True)
class BankEntry:
    """What a data set teaches."""

    gram: Float[np.ndarray, "inputs inputs"]
    """Gram matrix of its frames' inputs (`window_inputs`), less their mean."""
    moment: Float[np.ndarray, "inputs codes"]
    """Their products with the prior's codes of how the person's lips move, in units of how much they move."""
    frames: UInt64[np.ndarray, " frames"]
    """A number for each frame that tells its features from others'."""
    prior: UInt64[np.ndarray, ""]
    """The same of the prior: codes mean nothing to another one."""
    format: int = FORMAT


def bank_folder(folder: Path | None = None) -> Path:
    """The folder of the local bank: a given one, or the user's own ($XDG_DATA_HOME/ntalker/bank)."""
    if folder is not None:
        return folder.expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "ntalker" / "bank"


def entry_of(
    features: Float[np.ndarray, "frames 16 channels"],
    shapes: Float[np.ndarray, "frames lip_dim"],
    lip_basis: Float[np.ndarray, "lip_dim points 2"],
    prior: LipPrior,
) -> BankEntry:
    """The entry of a film.

    Args:
        features: windows of Whisper features.
        shapes: of the lips in those frames.
        lip_basis: displacements of the person's landmarks for a lip shape of 1.
        prior: over speakers.
    """
    inputs = window_inputs(torch.from_numpy(features).double())
    inputs = inputs - inputs.mean(dim=0)
    moved = torch.from_numpy((shapes - shapes.mean(axis=0)).astype(np.float64)) @ torch.from_numpy(
        lip_basis.astype(np.float64)
    ).flatten(1)
    moved = moved / moved.square().sum(dim=1).mean().sqrt()
    codes = moved @ torch.linalg.pinv(prior.basis_of(lip_basis.shape[1]).flatten(1))
    return BankEntry(
        (inputs.T @ inputs).numpy(), (inputs.T @ codes).numpy(), frame_numbers(features), _number_of_prior(prior)
    )


def frame_numbers(features: Float[np.ndarray, "frames 16 channels"]) -> UInt64[np.ndarray, " frames"]:
    """A number for each frame that tells its features from others'."""
    return np.array([_number(frame) for frame in features.astype(np.float32)], np.uint64)


def refined(
    prior: LipPrior, entries: Iterable[BankEntry], features: Float[np.ndarray, "frames 16 channels"]
) -> LipPrior:
    """The prior with what entries teach, each of their frames as much as one of its own.

    Args:
        prior: over speakers.
        entries: of the bank; one of the film itself is left out, so that frames held out of its training stay so.
        features: of the film that the prior is wanted for.
    """
    own = frame_numbers(features)
    others = [entry for entry in entries if np.isin(own, entry.frames).mean() < SAME]
    if not others:
        return prior
    precision = prior.precision + sum(torch.from_numpy(entry.gram) for entry in others)
    moment = prior.precision @ prior.weights + sum(torch.from_numpy(entry.moment) for entry in others)
    return LipPrior(torch.linalg.solve(precision, moment), precision, prior.basis)


def write_entry(entry: BankEntry, path: Path) -> None:
    """Writes an entry, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **{each.name: getattr(entry, each.name) for each in fields(entry)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_entry(path: Path, prior: LipPrior) -> BankEntry:
    """Reads an entry.

    Args:
        path: of the entry.
        prior: that it is to refine.

    Raises:
        NTalkerError: it is broken, empty, not finite, of another width, or of another version of the prior.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            entry = BankEntry(**{each.name: file[each.name] for each in fields(BankEntry)})
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise NTalkerError(f"{path} is no entry of a bank ({error}): remove it.") from error
    inputs, codes = prior.weights.shape
    if int(entry.format) != FORMAT or entry.prior != _number_of_prior(prior):
        raise NTalkerError(f"{path} was made by another version of ntalker_ns: add its data set again.")
    if entry.gram.shape != (inputs, inputs) or entry.moment.shape != (inputs, codes):
        raise NTalkerError(
            f"{path} is of features of another width ({entry.gram.shape[0]} numbers, not {inputs}): remove it."
        )
    if not np.isfinite(entry.gram).all() or not np.isfinite(entry.moment).all():
        raise NTalkerError(f"{path} holds values that are not numbers: add its data set again.")
    if not len(entry.frames) or not entry.gram.any():
        raise NTalkerError(f"{path} is empty: remove it.")
    return entry


def _number(array: np.ndarray) -> np.uint64:
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _number_of_prior(prior: LipPrior) -> UInt64[np.ndarray, ""]:
    parts: list[Tensor] = [prior.weights, prior.basis]
    return np.array(_number(torch.cat([part.flatten() for part in parts]).float().numpy()))
