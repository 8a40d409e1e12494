"""Places for results: what can be written passes without a trace, what cannot is a sentence."""

import os
from pathlib import Path

import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import check_file, check_folder


def test_what_can_be_written_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, tmp_path / "new" / "deep", Path("."), Path("new")):
        check_folder(place, "--output-dir")
        check_file(place / "page.html", "--output")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(NTalkerError, match=rf"--output-dir {place} cannot .*{tmp_path}/file: Not a directory"):
            check_folder(place, "--output-dir")
        with pytest.raises(NTalkerError, match="Not a directory"):
            check_file(place / "page.html", "--output")
    with pytest.raises(NTalkerError, match=f"--output {tmp_path} is a folder"):
        check_file(tmp_path, "--output")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody can write")
def test_a_place_where_nobody_can_write(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"--output /proc/a\.mp4 cannot be written to \(/proc: .*another --output"):
        check_file(Path("/proc/a.mp4"), "--output")
    with pytest.raises(NTalkerError, match="/proc"):
        check_folder(Path("/proc/runs/anna"), "--output-dir")


def test_a_source_is_not_replaced(tmp_path: Path):
    source, other = tmp_path / "source.mp4", tmp_path / "other.mp4"
    source.touch()
    check_file(source, "--output", [None, other])
    other.touch()
    check_file(source, "--output", [other, None])
    os.link(source, tmp_path / "same.mp4")
    for path in (source, tmp_path / "same.mp4"):
        with pytest.raises(NTalkerError, match="would replace"):
            check_file(path, "--output", [other, source])
