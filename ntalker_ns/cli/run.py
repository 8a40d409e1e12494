"""Runs a command so that users see sentences, not tracebacks."""

import errno
import signal
import sys
import warnings
from typing import Protocol, runtime_checkable

from ntalker_ns.errors import NTalkerError
from ntalker_ns.training.code_cache import provide_code_cache
from ntalker_ns.training.interruption import interruptible

DEVELOPING = sys.flags.dev_mode
"""Whether errors of files keep their traceback: Python's own development mode (PYTHONDEVMODE=1)."""


@runtime_checkable
class Command(Protocol):
    """Interface of a sub-command."""

    def main(self) -> None:
        """Does the work."""
        ...


def run_command(command: Command) -> int:
    """Runs a command.

    Returns:
        The exit code: 0, 1 with one red sentence on standard error, or 130 when interrupted.

    Raises:
        SystemExit: 143 when the process is terminated (SIGTERM), once what is half-written is removed.
    """
    # Deprecations inside nerfstudio and torch say nothing to users and bury what does.
    for module in ("nerfstudio", "torch"):
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{module}(\.|$)")
    # Before anything imports numba or librosa.
    provide_code_cache()
    try:
        # SIGTERM ends the process as an exception does: hidden folders and half-written videos are removed.
        with interruptible((signal.SIGTERM,)):
            command.main()
    except NTalkerError as error:
        return _failed(f"{error}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            return _failed("The disk is full: make room, or write elsewhere.")
        # A disk that is full or a folder that is closed by now; an error without a file is a fault of ours.
        if error.filename is None or DEVELOPING:
            raise
        return _failed(f"{error.filename}: {error.strerror}.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def _failed(sentence: str) -> int:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(f"Error: {sentence}", style="red"))
    return 1
