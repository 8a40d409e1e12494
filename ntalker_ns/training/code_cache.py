"""Where compiled code is kept on machines whose home cannot be written to, as in a container with a user of its own.

numba keeps it in the user's cache and, where that is closed, ends with an error: for our kernels and for librosa.
"""

import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
"""numba's name of the folder."""


def provide_code_cache() -> Path | None:
    """Makes numba keep compiled code in a folder for temporary files, if the user's cache is closed.

    Returns:
        The folder; None where the user's cache is open. One that the user chose stays.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    if _is_open(_user_cache()):
        return None
    folder = Path(tempfile.gettempdir()) / f"ntalker_ns-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        # Code that somebody else put there must not be run.
        if folder.stat().st_uid != os.getuid() or folder.is_symlink():
            folder = Path(tempfile.mkdtemp(prefix="ntalker_ns-"))
    os.environ[VARIABLE] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def _user_cache() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # Nobody's home.
        return None


def _is_open(folder: Path | None) -> bool:
    if folder is None:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
