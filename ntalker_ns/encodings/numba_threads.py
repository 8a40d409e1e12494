"""One lock around all numba kernels."""

from threading import RLock

KERNEL_LOCK = RLock()
"""Held while a parallel kernel runs: where numba has neither OpenMP nor TBB, two threads (training and the viewer)
launching kernels at once would end the process. A kernel uses all cores, so nothing is lost by waiting."""
