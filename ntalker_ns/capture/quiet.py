"""Keeps the chatter of native libraries off the terminal, where it would tear progress bars apart."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Sends what C++ code writes to standard error to nowhere while the block runs; Python errors still raise."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
