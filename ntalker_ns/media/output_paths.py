"""Whether results can be written to the place that a user names: asked before the work, not found out after it."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A place to write a file or a folder to, which then becomes the target: that is there whole or not at all.

    Args:
        target: a file, replaced if it is there, or a folder that is not there or empty when the context ends. The
            folder that it is in is made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(target)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        remove(partial)


def partial_path(target: Path) -> Path:
    """A hidden place beside a file or folder, to write to until it is whole; its ending is the same.

    What processes that were killed left there of the same target is removed.

    Args:
        target: in a folder that is there.
    """
    left_behind = re.compile(rf"\.{re.escape(target.stem)}\.(\d+)\.part{re.escape(target.suffix)}")
    for name in os.listdir(target.parent):
        found = left_behind.fullmatch(name)
        if found and not _runs(int(found[1])):
            remove(target.with_name(name))
    return target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process of this number is running."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # Somebody else's.
        return True
    return True


def full_disk(path: Path, option: str) -> NTalkerError:
    """The error where a disk became full.

    Args:
        path: where the results go.
        option: that names it on the command line.
    """
    return NTalkerError(f"The disk of {option} {path} is full: make room, or choose another {option}.")


def check_room(folder: Path, wanted: int, option: str) -> None:
    """Makes sure that a disk has room.

    Args:
        folder: on it.
        wanted: bytes.
        option: that names the folder on the command line.

    Raises:
        NTalkerError: it has less.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise NTalkerError(
            f"{option} {folder} has room for {free / 1e6:.0f} MB, and about {wanted / 1e6:.0f} MB are wanted: make "
            f"room, or choose another {option}."
        )


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
