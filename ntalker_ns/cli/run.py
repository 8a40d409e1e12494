"""Runs a command so that users see sentences, not tracebacks."""

import sys
import warnings
from typing import Protocol

from ntalker_ns.errors import NTalkerError


class Command(Protocol):
    """What a sub-command is."""

    def main(self) -> None:
        """Does the work."""
        ...


def run_command(command: Command) -> int:
    """Runs a command.

    Returns:
        The exit code: 0, 1 with one red sentence on standard error, or 130 when interrupted.
    """
    # Deprecations inside nerfstudio and torch say nothing to users and bury what does.
    for module in ("nerfstudio", "torch"):
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{module}(\.|$)")
    try:
        command.main()
    except NTalkerError as error:
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True, soft_wrap=True).print(Text(f"Error: {error}", style="red"))
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0
