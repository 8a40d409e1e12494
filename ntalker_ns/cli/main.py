"""The `ntalker` command."""

import sys
from typing import Annotated

import tyro

from ntalker_ns.cli.bank import Bank
from ntalker_ns.cli.compare import Compare, TallyAnswers
from ntalker_ns.cli.demo import Demo
from ntalker_ns.cli.doctor import Doctor
from ntalker_ns.cli.edit_preview import EditPreview, with_editors
from ntalker_ns.cli.evaluate import Evaluate
from ntalker_ns.cli.experiment import RunExperiment
from ntalker_ns.cli.export import Export
from ntalker_ns.cli.frame import WriteFrame
from ntalker_ns.cli.live import Live
from ntalker_ns.cli.process import Process
from ntalker_ns.cli.render import Render
from ntalker_ns.cli.run import run_command
from ntalker_ns.cli.view import View

Commands = (
    Annotated[Process, tyro.conf.subcommand("process")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Live, tyro.conf.subcommand("live")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[WriteFrame, tyro.conf.subcommand("frame")]
    | Annotated[EditPreview, tyro.conf.subcommand("edit-preview")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[RunExperiment, tyro.conf.subcommand("experiment")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[TallyAnswers, tyro.conf.subcommand("tally")]
    | Annotated[Bank, tyro.conf.subcommand("bank")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)

_DESCRIPTION = "3D talking heads from video clips, driven by audio. Training: ns-train ntalker-splat-small --data DIR."


def run(arguments: list[str] | None = None) -> int:
    """Parses a command line and runs it.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit code; arguments that do not parse end the process with 2, as everywhere.
    """
    given = sys.argv[1:] if arguments is None else arguments
    # The editors' options come from heavy modules, which the other commands must not import.
    if given[:1] == ["edit-preview"]:
        return run_command(tyro.cli(with_editors(), prog="ntalker edit-preview", args=given[1:]))
    return run_command(tyro.cli(Commands, prog="ntalker", description=_DESCRIPTION, args=given))  # type: ignore[arg-type]


def entrypoint() -> None:
    """What the installed `ntalker` program calls."""
    sys.exit(run())
