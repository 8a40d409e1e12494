"""A data set is written whole or not at all."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ntalker_ns.capture.dataset import DatasetWriter, check_outside
from ntalker_ns.errors import NTalkerError


def left_over(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_written_set_appears_and_nothing_else(tmp_path: Path):
    image = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16) % 5
    with DatasetWriter(tmp_path / "deep" / "anna") as writer:
        writer.write_image(0, image)
        writer.write_labels(0, labels)
        writer.write_transforms({"w": 16})
        assert not (tmp_path / "deep" / "anna").exists()
        assert np.array_equal(writer.read_labels(0), labels)
        assert np.abs(writer.read_image(0).astype(int) - image).max() < 4
    assert left_over(tmp_path / "deep") == ["anna"]
    assert json.loads((tmp_path / "deep/anna/transforms.json").read_text())["format_version"] == 1


def test_an_error_leaves_the_old_set_as_it_was(tmp_path: Path):
    old = tmp_path / "anna"
    with DatasetWriter(old) as writer:
        writer.write_transforms({"w": 1})
    with pytest.raises(KeyboardInterrupt), DatasetWriter(old) as writer:
        writer.write_transforms({"w": 2})
        raise KeyboardInterrupt
    assert left_over(tmp_path) == ["anna"]
    assert json.loads((old / "transforms.json").read_text())["w"] == 1
    with DatasetWriter(old) as writer:
        writer.write_transforms({"w": 3})
    assert json.loads((old / "transforms.json").read_text())["w"] == 3
    assert left_over(tmp_path) == ["anna"]


def test_nan_is_never_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"), DatasetWriter(tmp_path / "anna") as writer:
        writer.write_transforms({"frames": [{"transform_matrix": [[float("nan")]]}]})
    assert left_over(tmp_path) == []


def test_what_is_no_data_set_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "note.txt").write_text("a file")
    for name in ("thesis", "note.txt"):
        with pytest.raises(NTalkerError, match=name):
            DatasetWriter(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with DatasetWriter(tmp_path / "empty"):
        pass


def write_old(folder: Path) -> None:
    with DatasetWriter(folder) as writer:
        writer.write_image(0, np.zeros((16, 16, 3), np.uint8))
        writer.write_labels(0, np.zeros((16, 16), np.uint8))
        writer.write_landmarks(np.zeros((1, 478, 2)))
        (writer.folder / "audio_features" / "hubert.npy").write_bytes(b"")
        writer.write_transforms({"w": 16})


@pytest.mark.parametrize("name", ["thesis.txt", "images/holiday.jpg", "masks/00000.jpg", "raw/00000.jpg"])
def test_a_data_set_with_a_file_of_somebodys_own_is_not_replaced(tmp_path: Path, name: str):
    write_old(tmp_path / "anna")
    own = tmp_path / "anna" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("years of work")
    with pytest.raises(NTalkerError, match=name):
        DatasetWriter(tmp_path / "anna")
    assert left_over(tmp_path) == ["anna"]
    own.unlink()
    with DatasetWriter(tmp_path / "anna"):
        pass
    assert not (tmp_path / "anna" / "transforms.json").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"format": "nerfstudio"}'])
def test_a_data_set_of_another_program_is_not_replaced(tmp_path: Path, text: str):
    (tmp_path / "other" / "images").mkdir(parents=True)
    (tmp_path / "other" / "images" / "00000.jpg").write_bytes(b"")
    (tmp_path / "other" / "transforms.json").write_text(text)
    with pytest.raises(NTalkerError, match="is not of a data set made by"):
        DatasetWriter(tmp_path / "other")


def test_what_a_data_set_is_made_from_must_not_lie_in_it(tmp_path: Path):
    write_old(tmp_path / "anna")
    inside = tmp_path / "anna" / "audio_features" / "hubert.npy"
    (tmp_path / "link.npy").symlink_to(inside)
    check_outside(tmp_path / "anna", [Path("mel"), tmp_path / "beside.npy", tmp_path])
    for path in (inside, tmp_path / "link.npy", tmp_path / "anna"):
        with pytest.raises(NTalkerError, match=f"{path.name} lies in .*anna"):
            check_outside(tmp_path / "anna", [path])


def test_a_link_to_a_data_set_stays_a_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    write_old(tmp_path / "disk" / "anna")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "anna")
    with DatasetWriter(tmp_path / "link") as writer:
        writer.write_transforms({"w": 5})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "disk/anna/transforms.json").read_text())["w"] == 5
    assert (left_over(tmp_path), left_over(tmp_path / "disk")) == (["disk", "link"], ["anna"])


def test_a_mount_point_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    with pytest.raises(NTalkerError, match="disk is a mount point"):
        DatasetWriter(tmp_path / "disk")
    with DatasetWriter(tmp_path / "disk" / "anna"):
        pass
    assert (left_over(tmp_path), left_over(tmp_path / "disk")) == (["disk"], ["anna"])


def test_a_move_that_fails_ends_in_a_sentence_and_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_old(tmp_path / "anna")
    writer = DatasetWriter(tmp_path / "anna")

    def busy(source: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(NTalkerError, match=r"could not be moved to .*anna .*busy"), writer:
        pass
    assert left_over(tmp_path) == ["anna"]
    assert (tmp_path / "anna" / "transforms.json").is_file()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale, others = (
        tmp_path / f".anna.{ended.pid}.part",
        [tmp_path / f".anna.{os.getppid()}.part", tmp_path / ".bob.part"],
    )
    for folder in (stale, *others):
        (folder / "images").mkdir(parents=True)
    with DatasetWriter(tmp_path / "anna") as writer:
        assert not stale.exists()
        writer.write_transforms({"w": 1})
    assert left_over(tmp_path) == sorted(["anna", *(folder.name for folder in others)])


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 << 20))
    wanted = pytest.raises(NTalkerError, match="has room for 3 MB, and about 74 MB are wanted")
    with wanted, DatasetWriter(tmp_path / "anna") as writer:
        writer.check_room(500, 512)
    with pytest.raises(NTalkerError, match="is full: make room"), DatasetWriter(tmp_path / "anna"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert left_over(tmp_path) == []
