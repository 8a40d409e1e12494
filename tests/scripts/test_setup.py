"""scripts/setup.sh and scripts/install.py, as far as they go without installing anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.paths import REPOSITORY
from support.scripts import script

CONSTRAINTS = REPOSITORY / "scripts" / "constraints.txt"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the script reads, and an empty folder for commands that stand before the system's."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "commands").mkdir()
    for name in ("setup.sh", "constraints.txt"):
        shutil.copy(REPOSITORY / "scripts" / name, tmp_path / "scripts")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def _command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _fill_disk(clone: Path) -> None:
    _command(
        clone / "commands" / "df",
        "echo Filesystem 1024-blocks Used Available Capacity Mounted on\necho /dev/a 90000000 85605469 4394531 95% /",
    )


def _set_up(clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{clone / 'commands'}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["bash", str(clone / "scripts" / "setup.sh")], env=environment, capture_output=True, text=True, check=False
    )


def _finish(clone: Path) -> None:
    """An environment in which all is installed."""
    _command(clone / ".venv" / "bin" / "python", "exit 0")
    assert "Ready." in _set_up(clone).stdout


def test_a_full_disk_is_reported_before_anything_is_installed(clone: Path):
    _fill_disk(clone)
    result = _set_up(clone)
    assert result.returncode == 1
    assert "takes about 10 GB, and 4 GB are free in" in result.stderr
    assert str(clone) in result.stderr
    assert not (clone / ".venv").exists()


def test_a_finished_installation_is_left_alone(clone: Path):
    _finish(clone)
    result = _set_up(clone)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["pyproject.toml", "scripts/constraints.txt"])
def test_changed_requirements_are_installed(clone: Path, name: str):
    _finish(clone)
    with (clone / name).open("a") as file:
        file.write("# another\n")
    assert "Installing" in _set_up(clone).stdout
    assert _set_up(clone).stdout == ""
    assert "Installing" in _set_up(clone, NTALKER_TORCH="any").stdout


def test_an_interrupted_installation_begins_anew(clone: Path):
    _finish(clone)
    (clone / ".venv" / "ntalker-unfinished").touch()
    (clone / ".venv" / "ntalker-setup").unlink()
    _fill_disk(clone)
    assert "GB are free" in _set_up(clone).stderr


def test_settings_of_pip_are_passed_to_uv(monkeypatch: pytest.MonkeyPatch):
    install = script("install")
    settings = install.pip_settings(
        "global.index-url='https://a/simple'\n"
        "global.extra-index-url='\\nhttps://b/simple\\nhttps://c/simple'\n"
        "global.find-links='/x /y'\n"
        "install.index-url='https://d/simple'\n"
        ":env:.cert='/etc/cert.pem'\n"
        "global.cert='/other.pem'\n"
    )
    for name in ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    environment = install.uv_environment(settings, "https://default/simple")
    assert environment["UV_DEFAULT_INDEX"] == "https://d/simple"
    assert environment["UV_INDEX"] == "https://d/simple https://b/simple https://c/simple"
    assert environment["SSL_CERT_FILE"] == "/etc/cert.pem"
    assert environment["UV_FIND_LINKS"] == "/mine"
    assert environment["PATH"] == os.environ["PATH"]


def test_the_default_index_precedes_extra_ones():
    install = script("install")
    text = subprocess.run([sys.executable, "-m", "pip", "install", "--help"], capture_output=True, text=True).stdout
    default = install.default_index(text)
    assert default.endswith("/simple")
    environment = install.uv_environment({"extra-index-url": ["file:///extra"]}, default)
    assert environment["UV_INDEX"] == f"{default} file:///extra"
    assert install.default_index("another help") == ""


def test_pip_installs_where_uv_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    install = script("install")
    python = tmp_path / "python"
    _command(python, f'echo "$@" >> {tmp_path}/calls\ncase "$*" in *uv) echo "No uv here" >&2; exit 1 ;; esac')
    monkeypatch.setattr(sys, "executable", str(python))
    assert install.main() == 0
    assert "uv cannot install here (No uv here); pip does" in capfd.readouterr().err
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert calls[1].endswith(f"-c {CONSTRAINTS} -e .[dev]")


def test_the_version_of_torch_can_be_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install = script("install")
    monkeypatch.delenv("NTALKER_TORCH", raising=False)
    assert install.constraints(tmp_path) == CONSTRAINTS
    monkeypatch.setenv("NTALKER_TORCH", "any")
    left, all_lines = install.constraints(tmp_path).read_text(), CONSTRAINTS.read_text()
    gone = set(all_lines.splitlines()) - set(left.splitlines())
    assert {line.split("==")[0] for line in gone} == {"torch", "torchvision"}


def test_tested_versions_are_those_the_project_allows():
    tested = [Requirement(line) for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.!+]+", str(pin.specifier)) and not pin.url for pin in tested)
    needed = [
        Requirement(text)
        for text in re.findall(r'"([\w\[\]-]+[=><]=.*?)"', (REPOSITORY / "pyproject.toml").read_text())
    ]
    assert len(needed) > 20
    for requirement in needed:
        pins = [pin for pin in tested if pin.name == requirement.name]
        assert pins or requirement.name == "setuptools", requirement.name
        assert all(requirement.specifier.contains(str(pin.specifier)[2:]) for pin in pins), requirement
