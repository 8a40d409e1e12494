"""What numba's kernels have in common: outdated code is forgotten, current code is kept."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from numba.core.dispatcher import Dispatcher

import ntalker_ns
from ntalker_ns.encodings.numba_common import CONSOLE, announce_compiling, forget_outdated, kernel

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
    package = Path(ntalker_ns.__file__).parent
    for path in package.rglob("numba_*.py"):
        module = importlib.import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
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


def test_a_first_run_says_that_it_compiles(compiled):
    announce_compiling.cache_clear()
    with CONSOLE.capture() as capture:
        kernel(_made_up_kernel)
        kernel(_made_up_kernel)
    assert capture.get().count("Compiling") == 1


def _made_up_kernel(x):
    """Nothing of it was ever kept."""
    x[0] = 1
