"""Runs a command so that users see sentences, not tracebacks."""

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, runtime_checkable

from ntalker_ns.errors import NTalkerError

DEVELOPING = sys.flags.dev_mode
"""Whether errors of files keep their traceback: Python's own development mode (PYTHONDEVMODE=1)."""


@runtime_checkable
class Command(Protocol):
    """What a sub-command is."""

    def main(self) -> None:
        """Does the work."""
        ...


def run_command(command: Command) -> int:
    """Runs a command.

    Returns:
        The exit code: 0, 1 with one red sentence on standard error, or 130 when interrupted.

    Raises:
        SystemExit: 143 when the process is told to end (SIGTERM), once what is half-written is removed.
    """
    # Deprecations inside nerfstudio and torch say nothing to users and bury what does.
    for module in ("nerfstudio", "torch"):
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{module}(\.|$)")
    try:
        with _ended_in_order():
            command.main()
    except NTalkerError as error:
        return _failed(f"{error}")
    except OSError as error:
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


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Inside, SIGTERM ends the process as an exception does: hidden folders and half-written videos are removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread hears signals.
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
