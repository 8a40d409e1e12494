"""What numba's kernels have in common: outdated code is forgotten, current code is kept."""

import importlib.util
import math
import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.errors import TypingError

import ntalker_ns.kernels.numba
from ntalker_ns.kernels.numba.common import CONSOLE, announce_compiling, forget_outdated, kernel

SOURCE = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x

@njit(cache=True)
def thrice(x):
    return 3 * x
"""


def test_no_two_compiled_functions_have_one_name() -> None:
    """numba tells functions apart, in what it keeps for other processes, by their names alone."""
    names: dict[tuple[str, str], Dispatcher] = {}
    for path in Path(ntalker_ns.kernels.numba.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"ntalker_ns.kernels.numba.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, Dispatcher):
                key = (value.py_func.__module__, value.py_func.__qualname__)
                assert names.setdefault(key, value) is value, key
    assert len(names) > 40


@pytest.fixture
def compiled(tmp_path: Path) -> ModuleType:
    """A module with two compiled functions, and with what numba keeps of them."""
    path = tmp_path / "numba_made_up.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("numba_made_up", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.twice(4) == 8 and module.thrice(4) == 12
    return module


def _indices(module: ModuleType) -> set[str]:
    return {path.name.split("-")[0] for path in Path(module.twice.stats.cache_path).glob("*.nbi")}


def test_code_older_than_its_source_is_forgotten(compiled):
    folder = Path(compiled.twice.stats.cache_path)
    written = max(path.stat().st_mtime for path in folder.glob("*.nbi"))
    forget_outdated(compiled.twice, written + 1)
    assert _indices(compiled) == {"numba_made_up.thrice"}


def test_current_code_is_kept(compiled):
    folder = Path(compiled.twice.stats.cache_path)
    for path in folder.glob("*.nbi"):
        os.utime(path, (1000, 1000))
    forget_outdated(compiled.twice, 999)
    assert _indices(compiled) == {"numba_made_up.twice", "numba_made_up.thrice"}


def test_only_compiling_is_announced() -> None:
    """Once in a process, and neither where a kernel is not called nor where other code is compiled."""
    announce_compiling.cache_clear()
    with CONSOLE.capture() as capture:
        made_up = kernel(_made_up_kernel)
        njit(_made_up_function)(1)
    assert "Compiling" not in capture.get()
    with CONSOLE.capture() as capture:
        for kind in (np.float32, np.float64):
            made_up(np.zeros(1, kind))
    assert capture.get().count("Compiling") == 1
    forget_outdated(made_up, math.inf)


def _made_up_kernel(x):
    x[0] = 1


def _made_up_function(x):
    return x


def test_who_traces_lines_does_not_trace_the_compiler() -> None:
    """nerfstudio's viewer does, and breaks off in whatever line is run when somebody moves the camera."""
    traced: set[str] = set()

    def trace(frame: FrameType, what: str, argument: object) -> Any:
        traced.add(frame.f_globals.get("__name__", ""))
        return trace

    made = kernel(_fill)
    forget_outdated(made, math.inf)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        made(np.zeros(3))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
        forget_outdated(made, math.inf)
    assert "numba.core.event" in traced and not {name for name in traced if name.startswith("numba.core.typeinfer")}


def test_a_trace_goes_on_where_a_kernel_cannot_be_compiled() -> None:
    def trace(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(TypingError):
            kernel(_fill)("text")
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


def _fill(values):
    for i in range(len(values)):
        values[i] = 1.0
