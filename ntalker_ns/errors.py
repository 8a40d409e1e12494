"""The one error type whose message is meant for users."""

import sys
from collections.abc import Callable
from types import TracebackType


class NTalkerError(RuntimeError):
    """An error that the user can mend: the message is one sentence naming the file, frame or option, and the remedy."""


def in_words(error: Exception) -> str:
    """The cause of an error raised while reading a file, on one line."""
    if isinstance(error, KeyError):
        return f"it has no '{error.args[0]}'"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value in it has the wrong type"
    return " ".join(str(error).split())


def print_as_sentence(explain: Callable[[BaseException], str | None] = lambda error: None) -> None:
    """Makes an uncaught `NTalkerError` end a program with its sentence and exit code 1, instead of a traceback.

    For the `ns-*` commands, whose entry points are not ours. Every other exception is shown as before.

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
