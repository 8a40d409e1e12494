"""The one error type whose message is meant for users."""


class NTalkerError(RuntimeError):
    """An error that the user can fix: the message is one sentence naming the file, frame or option, and the remedy."""


def in_words(error: Exception) -> str:
    """The cause of an error raised while reading a file, on one line."""
    if isinstance(error, KeyError):
        return f"it has no '{error.args[0]}'"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value in it has the wrong type"
    return " ".join(str(error).split())
