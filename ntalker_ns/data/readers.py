"""Reads a data set of any supported format."""

from pathlib import Path

from ntalker_ns.data.clip import TRANSFORMS_FILE, Clip, check_clip, read_own_clip
from ntalker_ns.errors import NTalkerError


def is_clip(folder: Path) -> bool:
    """Whether a folder holds a data set, ours or one of AD-NeRF, RAD-NeRF or ER-NeRF."""
    return (folder / TRANSFORMS_FILE).is_file() or (folder / "transforms_train.json").is_file()


def read_clip(folder: Path) -> Clip:
    """Reads a data set, ours or one of AD-NeRF, RAD-NeRF or ER-NeRF.

    Args:
        folder: the data set.

    Raises:
        NTalkerError: it is not one, names files that are missing, or holds values that cannot be.
    """
    from ntalker_ns.data.radnerf import read_radnerf_clip

    if (folder / TRANSFORMS_FILE).is_file():
        clip = read_own_clip(folder)
    elif (folder / "transforms_train.json").is_file():
        clip = read_radnerf_clip(folder)
    elif not folder.exists():
        raise NTalkerError(f"There is no data set at {folder}: make one with `ntalker process CLIP`.")
    else:
        raise NTalkerError(f"{folder} is not a data set (no {TRANSFORMS_FILE}): make one with `ntalker process CLIP`.")
    check_clip(clip)
    return clip
