"""Freed memory that stays with the process."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers for its parameters (malloc.h)."""

KEPT = 512 << 20
"""Bytes that a process may hold unused."""


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed instead of giving it back to the system.

    Every training step and every frame takes and frees the same tens of megabytes. Given back each time, they come
    again page by page and zeroed: thousands of page faults a frame, a tenth of its time and more. Does nothing where
    there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT)
        mallopt(_TRIM_THRESHOLD, KEPT)
