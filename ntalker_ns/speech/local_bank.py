"""A user's own bank: data sets on this machine that refine the prior over speakers.

An entry for each data set (`NAME.npz`). It holds sums over its frames, which the prior's regression is refined with;
no picture, no sound, and nothing leaves the machine.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import written_whole
from ntalker_ns.speech.prior import LipPrior, window_inputs

FORMAT = 2

SAME = 0.5
"""Part of a clip's frames that an entry must know to be of the same clip."""


@dataclass(frozen=True)
class BankEntry:
    """Regression statistics of a data set."""

    gram: Float[np.ndarray, "inputs inputs"]
    """Gram matrix of its frames' inputs (`window_inputs`), less their mean."""
    moment: Float[np.ndarray, "rows codes"]
    """Their products with the prior's codes of how the person's lips move, in units of how much they move, less what
    the prior's network predicts."""
    frames: UInt64[np.ndarray, " frames"]
    """A number for each frame that tells its features from others'."""
    prior: int
    """The same of the prior: codes mean nothing to another one."""
    format: int = FORMAT


def bank_folder(folder: Path | None = None) -> Path:
    """The folder of the local bank: a given one, or the user's own ($XDG_DATA_HOME/ntalker/bank)."""
    if folder is not None:
        return folder.expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "ntalker" / "bank"


def entry_paths(folder: Path) -> list[Path]:
    """The entries of a bank, in the order of their names; none where there is no bank."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))


def entry_of(
    features: Float[np.ndarray, "frames 16 channels"],
    shapes: Float[np.ndarray, "frames lip_dim"],
    lip_basis: Float[np.ndarray, "lip_dim points 2"],
    prior: LipPrior,
) -> BankEntry:
    """The entry of a clip.

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
    gram, moment = ((inputs.T @ each).float().numpy() for each in (inputs, codes - prior.network(inputs)))
    return BankEntry(gram, moment, frame_numbers(features), _number_of_prior(prior))


def frame_numbers(features: Float[np.ndarray, "frames 16 channels"]) -> UInt64[np.ndarray, " frames"]:
    """A number for each frame that tells its features from others'."""
    return np.array([_number(frame) for frame in features.astype(np.float32)], np.uint64)


def is_of(entry: BankEntry, features: Float[np.ndarray, "frames 16 channels"]) -> bool:
    """Whether an entry is of a clip that is about to be learned: frames held out of its training must stay so."""
    return bool(np.isin(frame_numbers(features), entry.frames).mean() >= SAME)


def refined(prior: LipPrior, entries: Sequence[BankEntry]) -> LipPrior:
    """The prior with what entries teach, each of their frames as much as one of its own."""
    if not entries:
        return prior
    precision, moment = prior.precision, prior.precision @ prior.weights
    for entry in entries:
        precision = precision + torch.from_numpy(entry.gram).double()
        moment = moment + torch.from_numpy(entry.moment).double()
    return replace(prior, weights=torch.linalg.solve(precision, moment), precision=precision)


def refined_by_bank(
    prior: LipPrior, folder: Path, features: Float[np.ndarray, "frames 16 channels"]
) -> tuple[LipPrior, list[str]]:
    """The prior refined by a bank.

    Args:
        prior: over speakers.
        folder: of the bank.
        features: of the clip that the prior is wanted for.

    Returns:
        The prior, and sentences on what was used and what could not be.
    """
    entries, sentences = [], []
    for path in entry_paths(folder):
        try:
            entries.append(read_entry(path, prior))
        except NTalkerError as error:
            sentences.append(f"Not used: {error}")
    others = [entry for entry in entries if not is_of(entry, features)]
    if others:
        clips = "clip" if len(others) == 1 else "clips"
        sentences.insert(0, f"The audio-to-lips prior is refined by {len(others)} more {clips}, of {folder}.")
    return refined(prior, others), sentences


def write_entry(entry: BankEntry, path: Path) -> None:
    """Writes an entry, complete or not at all."""
    values = asdict(entry) | {"prior": np.uint64(entry.prior)}
    with written_whole(path) as partial:
        np.savez_compressed(partial, **values)


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
            entry = BankEntry(
                file["gram"], file["moment"], file["frames"], prior=int(file["prior"]), format=int(file["format"])
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NTalkerError(f"{path} is no entry of a bank ({error}): remove it.") from error
    inputs, codes = prior.weights.shape
    if entry.format != FORMAT or entry.prior != _number_of_prior(prior):
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


def _number(array: np.ndarray) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _number_of_prior(prior: LipPrior) -> int:
    parts: list[Tensor] = [prior.weights, prior.basis]
    return _number(torch.cat([part.flatten() for part in parts]).float().numpy())
