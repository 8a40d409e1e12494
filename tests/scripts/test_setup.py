"""scripts/setup.sh, as far as it goes without installing anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.paths import REPOSITORY


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the script reads, and an empty folder for commands that stand before the system's."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "commands").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", tmp_path / "scripts")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def _command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _set_up(clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{clone / 'commands'}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(clone / "scripts" / "setup.sh")], env=environment, capture_output=True, text=True, check=False
    )


def test_a_full_disk_is_told_before_anything_is_installed(clone: Path):
    _command(
        clone / "commands" / "df",
        "echo Filesystem 1024-blocks Used Available Capacity Mounted on\necho /dev/a 90000000 85605469 4394531 95% /",
    )
    result = _set_up(clone)
    assert result.returncode == 1
    assert "takes about 10 GB, and 4 GB are free in" in result.stderr
    assert str(clone) in result.stderr
    assert not (clone / ".venv").exists()


def test_where_all_is_installed_nothing_is_done(clone: Path):
    _command(clone / ".venv" / "bin" / "python", "exit 0")
    checksum = subprocess.run(
        ["cksum"], input=(clone / "pyproject.toml").read_bytes(), capture_output=True, check=True
    ).stdout.decode()
    (clone / ".venv" / "ntalker-setup").write_text(checksum)
    result = _set_up(clone)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
