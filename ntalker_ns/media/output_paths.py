"""Whether results can be written to the place that a user names: asked before the work, not found out after it."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from ntalker_ns.errors import NTalkerError


def check_folder(folder: Path, option: str) -> None:
    """Makes sure that files can be written to a folder, there or still to be made. It leaves nothing behind.

    Args:
        folder: where to.
        option: that names it on the command line.

    Raises:
        NTalkerError: they cannot.
    """
    _check(folder, folder, option)


def check_file(path: Path, option: str, read: Iterable[Path | None] = ()) -> None:
    """Makes sure that a file can be written, in a folder that is there or still to be made. It leaves nothing behind.

    Args:
        path: the file; one that is there will be replaced.
        option: that names it on the command line.
        read: files that it is made from, and that it must not replace.

    Raises:
        NTalkerError: it cannot.
    """
    _check(path, path.parent, option)
    if path.is_dir():
        raise NTalkerError(f"{option} {path} is a folder; choose another name for the file.")
    if path.exists() and any(other is not None and other.exists() and path.samefile(other) for other in read):
        raise NTalkerError(f"{option} {path} would replace a file that it is made from; choose another {option}.")


def _check(path: Path, folder: Path, option: str) -> None:
    """Tries it in the folder, or in the nearest above that is there: permissions do not say it of every place."""
    place = folder.absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise NTalkerError(
            f"{option} {path} cannot be written to ({place}: {error.strerror}); choose another {option}."
        ) from error
