"""Compilation and caching of numba kernels."""

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from llvmlite import ir
from nerfstudio.utils.rich_utils import CONSOLE
from numba import njit
from numba.core import event

FASTMATH = {"contract", "reassoc", "nsz"}
"""Permitted reorderings of sums. Neither "nnan" nor "ninf": NaN must reach the output, and never an address."""

KERNEL_LOCK = RLock()
"""Held while a parallel kernel runs: without OpenMP or TBB, two threads (training and the viewer) launching kernels at
once would end the process. A kernel uses all cores, so that waiting costs nothing."""

_KERNELS = Path(__file__).parent

_REPORT_INTERVAL = 10.0
"""Seconds between two reports of kernels compiled."""

_TRAINING_KERNELS = 21
"""Kernels that a training compiles."""


def kernel(function: Callable[..., None]) -> Any:
    """Compiles a parallel kernel when it is first called, and caches the code for the next process.

    numba notices changes of the kernel's own file, but not of inlined functions in others. So cached code that is older
    than any of the package's numba modules is removed.
    """
    return register(njit(parallel=True, fastmath=FASTMATH, cache=True)(function))


def register(compiled: Any) -> Any:
    """Forgets outdated cached code of a kernel, and announces its compilation.

    Args:
        compiled: the function, with `cache=True`.
    """
    forget_outdated(compiled, max(source.stat().st_mtime for source in _KERNELS.glob("*.py")))
    _kernels.add(compiled)
    return compiled


_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner: Any = njit(**_INNER)
"""Compiles a function for kernels only: without wrappers for Python, which take a tenth of the compile time."""

_LEAN = {**_INNER, "fastmath": FASTMATH, "_nrt": False}
lean: Any = njit(**_LEAN)
"""The same for a function that neither makes nor returns arrays, without reference counting.

numba would count references each time an array is sliced or put into a tuple; threads contend for the counters, which
takes a fifth of the time of a kernel of small tiles.
"""


def forget_outdated(compiled: Any, changed: float) -> None:
    """Removes outdated cached code of a function.

    Args:
        compiled: the function, with `cache=True`.
        changed: when its source was changed, seconds since 1970; newer code stays.
    """
    # numba's index files of cached code.
    name = f"{Path(compiled.py_func.__code__.co_filename).stem}.{compiled.py_func.__qualname__}-*.nbi"
    for index in Path(compiled.stats.cache_path).glob(name):
        if index.stat().st_mtime < changed:
            index.unlink(missing_ok=True)


class _Announcer(event.Listener):
    """Reports that kernels are being compiled, of which no compiled code was kept, and how many are done.

    nerfstudio's viewer traces every line of what it renders and breaks off where somebody moves the camera: a compiler
    would take minutes more, and begin anew with every move. Tracing is suspended for it.
    """

    def __init__(self) -> None:
        self._tracers: list[Any] = []  # numba compiles one function at a time, and those that it needs within
        self._compiled, self._start, self._reported = 0, 0.0, 0.0

    def on_start(self, event: Any) -> None:
        """Called before numba compiles anything."""
        if event.data["dispatcher"] in _kernels:
            announce_compiling()
            self._start = self._start or time.monotonic()
            self._tracers.append(sys.gettrace())
            sys.settrace(None)

    def on_end(self, event: Any) -> None:
        """Called after it was compiled, or failed."""
        if event.data["dispatcher"] in _kernels:
            sys.settrace(self._tracers.pop())
            self._compiled += 1
            seconds = time.monotonic() - self._start
            if seconds - self._reported >= _REPORT_INTERVAL:
                self._reported = seconds
                CONSOLE.print(f"  {self._compiled} of about {_TRAINING_KERNELS} kernels after {seconds:.0f} s")


_kernels: set[Any] = set()
event.register("numba:compile", _Announcer())


@cache
def announce_compiling() -> None:
    """Reports it once in a process."""
    CONSOLE.print("Compiling kernels for this machine: once, about 90 s on an idle core.")


def repeated(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    """LLVM code of a vector filled with a value.

    Args:
        builder: of the code.
        value: of the vector's element.
        vector: the vector's type.
    """
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))
