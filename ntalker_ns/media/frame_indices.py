"""Frame numbers: evenly spaced ones, and runs of frames."""

import numpy as np
from jaxtyping import Bool, Int64


def evenly_spaced(count: int, total: int) -> Int64[np.ndarray, " chosen"]:
    """Indices evenly spaced over `total`, the first and the last among them; all where `count` is more than `total`.

    Example:
        >>> evenly_spaced(3, 11).tolist()
        [0, 5, 10]
    """
    return np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))


def runs(chosen: Bool[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """First index of every run of True, and the one past its last.

    Example:
        >>> runs(np.array([True, True, False, True]))
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def longest_run(chosen: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    """Start and length of the longest run of True (the first of equals); the whole range where there is none."""
    first, end = max(runs(chosen), key=lambda run: run[1] - run[0], default=(0, len(chosen)))
    return first, end - first
