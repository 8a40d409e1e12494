"""The one error type whose message is meant for users."""

import sys
from collections.abc import Callable
from types import TracebackType


class NTalkerError(RuntimeError):
    """Something a user can mend: the message is one sentence that names the file, frame or option and what to do."""


def in_words(error: Exception) -> str:
    """What is wrong with a file, from the error that reading it ended with, on one line."""
    if isinstance(error, KeyError):
        return f"it has no '{error.args[0]}'"
    if isinstance(error, (TypeError, AttributeError)):
        return "something in it is of another kind"
    return " ".join(str(error).split())


def print_as_sentence(explain: Callable[[BaseException], str | None] = lambda error: None) -> None:
    """Makes an uncaught `NTalkerError` end a program with its sentence and exit code 1, instead of a traceback.

    The `ns-*` commands have no place of ours to catch it in. Every other exception is shown as before.

    Args:
        explain: gives a sentence for other errors that users can mend, None for the rest.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sentence = str(error) if isinstance(error, NTalkerError) else explain(error)
        if sentence is not None:
            print(f"Error: {sentence}", file=sys.stderr)
        else:
            previous(kind, error, traceback)

    sys.excepthook = hook
