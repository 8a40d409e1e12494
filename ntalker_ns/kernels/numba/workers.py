"""Threads that take pieces of work one after another, and sleep where there is none.

numba's own threads spin while they wait, on OpenMP as on its workqueue: beside other programs a kernel of a few
milliseconds then takes several times as long. These threads call kernels that hold no lock of Python and take their
pieces from a common counter.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, get_num_threads, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ntalker_ns.kernels.numba.common import FASTMATH, register


def piecewise(function: Callable[..., None]) -> Any:
    """Compiles a kernel for `in_threads`, and caches the code for the next process."""
    return register(njit(nogil=True, fastmath=FASTMATH, cache=True)(function))


def in_threads(kernel: Callable[..., None], *arguments: Any) -> None:
    """Runs a kernel in as many threads as numba's kernels may use, this one among them.

    Args:
        kernel: of `piecewise`; its last argument is the counter of pieces, from which it takes with `take` until there
            is no more.
        arguments: the others.
    """
    counter = np.zeros(1, np.int64)
    others = [_pool().submit(kernel, *arguments, counter) for _ in range(get_num_threads() - 1)]
    try:
        kernel(*arguments, counter)
    finally:
        for each in others:
            each.result()


@cache
def _pool() -> ThreadPoolExecutor:
    most = int(config.NUMBA_NUM_THREADS)  # pyright: ignore[reportAttributeAccessIssue]
    return ThreadPoolExecutor(max(most - 1, 1), "ntalker-kernel")


def _take(typing_context: Any, counter: Any) -> Any:
    """LLVM code of `take`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = cgutils.get_item_pointer(
            context, builder, signature.args[0], array, [ir.Constant(ir.IntType(64), 0)], wraparound=False
        )
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate


take: Any = intrinsic(_take)
"""For kernels: the number in a counter (1,), int64, that threads share; raises it by one."""
