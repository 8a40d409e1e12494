"""Progress bars with an estimate of the time left, and silence for native libraries."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def progress_bar() -> Progress:
    """A bar with counts, elapsed time and time left."""
    return Progress(
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields `items` under a progress bar.

    Args:
        items: what to iterate over.
        description: a few words on what is being done.
        total: how many there are, where `items` has no length.
    """
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Discards what native code writes to standard error while the block runs; Python errors still raise."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
