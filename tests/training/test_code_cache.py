"""Compiled code on machines whose home is closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ntalker_ns.training.code_cache import VARIABLE, provide_code_cache

COMPILES = """
import numba.core.caching as caching

def closed(self):
    raise PermissionError("closed")

caching.InTreeCacheLocator.ensure_cache_path = closed
from ntalker_ns.training.code_cache import provide_code_cache
print(provide_code_cache())
import numba
import ntalker_ns.kernels.numba.occupancy
"""


@pytest.mark.parametrize("home", ["/proc/nobody", None])
def test_with_a_closed_home_kernels_are_imported(tmp_path: Path, home: str | None):
    hidden = ("HOME", "XDG_CACHE_HOME", VARIABLE)
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"TMPDIR": str(tmp_path), "HOME": home or str(tmp_path / "home")}
    program = subprocess.run(
        [sys.executable, "-c", COMPILES], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert program.returncode == 0, program.stderr
    folder = tmp_path / f"ntalker_ns-{os.getuid()}"
    assert program.stdout.strip() == (str(folder) if home else "None")
    if home:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_ones_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert provide_code_cache() == tmp_path


def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nobody")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    theirs = tmp_path / f"ntalker_ns-{os.getuid()}"
    theirs.symlink_to(tmp_path)
    given = provide_code_cache()
    monkeypatch.setenv(VARIABLE, "")
    assert given is not None and given != theirs and given.parent == tmp_path
