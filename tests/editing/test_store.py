"""The store of an edit: atomic files, versions by training step, resuming."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.editing.store import EditStore, write_whole
from ntalker_ns.errors import NTalkerError


def picture(seed: int, channels: int = 3) -> np.ndarray:
    shape = (6, 5, 3) if channels == 3 else (6, 5)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> EditStore:
    return EditStore(tmp_path / "edit")


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_bit_for_bit(store: EditStore, channels: int):
    store.put("edited", 7, 100, picture(0, channels))
    np.testing.assert_array_equal(store.get("edited", 7, 100), picture(0, channels))
    assert store.has("edited", 7, 100)
    assert not store.has("edited", 7, 101)
    assert len(list(store.folder.rglob("*.png"))) == 1


def test_the_newest_version_at_a_step_is_found(store: EditStore):
    for step in (0, 30, 20):
        store.put("edited", 4, step, picture(step))
    store.put("edited", 5, 25, picture(1))
    assert [store.newest("edited", 4, step) for step in (0, 19, 20, 29, 30, 99)] == [0, 0, 20, 20, 30, 30]
    assert store.newest("edited", 5, 24) is None
    assert store.newest("before", 4, 99) is None
    assert store.newest_of_all("edited", 24) == {4: 20}
    assert store.newest_of_all("edited", 99) == {4: 30, 5: 25}


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 50), min_size=1), st.integers(0, 60), st.integers(0, 60))
def test_pruning_never_changes_what_later_training_sees(tmp_path_factory: Any, made: set[int], kept: int, later: int):
    store = EditStore(tmp_path_factory.mktemp("store"))
    for step in made:
        store.put("edited", 0, step, picture(step))
    before = store.newest("edited", 0, max(later, kept))
    store.prune(kept)
    assert store.newest("edited", 0, max(later, kept)) == before
    assert sum(store.has("edited", 0, step) for step in made if step <= kept) <= 1
    store.drop_after(later)
    assert all(step <= later for step in made if store.has("edited", 0, step))


def test_a_missing_or_damaged_picture_is_an_error(store: EditStore):
    with pytest.raises(NTalkerError, match=r"00003\.000000\.png is missing"):
        store.get("edited", 3, 0)
    store.put("edited", 3, 0, picture(0))
    (store.folder / "edited" / "00003.000000.png").write_bytes(b"no png")
    with pytest.raises(NTalkerError, match="cannot be decoded"):
        store.get("edited", 3, 0)


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: Any):
    target = tmp_path / "edit" / "file"
    write_whole(target, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NTalkerError, match=r"No space left on device.*make room\."):
        write_whole(target, b"new")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_store_refuses_another_edit(store: EditStore):
    description = {"instruction": "Make her bronze", "frames": [0, 5], "bounds": (3.0, 6.0)}
    store.describe(description)
    store.describe(description)
    with pytest.raises(NTalkerError, match="edited with instruction Make her bronze, this one has Make her old"):
        store.describe({**description, "instruction": "Make her old"})
    (store.folder / "edit.json").write_text("{")
    with pytest.raises(NTalkerError, match="cannot be read"):
        store.describe(description)


@pytest.mark.parametrize("linked", [True, False])
def test_a_resumed_run_takes_over_pictures_without_changing_the_old_run(
    store: EditStore, tmp_path: Path, monkeypatch: Any, linked: bool
):
    if not linked:

        def no_links(*_: Any) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr("os.link", no_links)
    store.put("edited", 1, 0, picture(0))
    store.describe({"frames": 1})
    resumed = EditStore(tmp_path / "resumed")
    resumed.put("edited", 2, 0, picture(5))
    resumed.take_over(store)
    np.testing.assert_array_equal(resumed.get("edited", 1, 0), picture(0))
    np.testing.assert_array_equal(resumed.get("edited", 2, 0), picture(5))
    resumed.put("edited", 1, 0, picture(9))
    np.testing.assert_array_equal(store.get("edited", 1, 0), picture(0))
