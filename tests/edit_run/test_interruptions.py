"""Edits that end early: killed, stopped, out of memory or disk space; and resuming them."""

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_diffusion import save_ip2p
from support.tiny_edit import FRAMES, frames_of, tiny_edit
from support.tiny_run import start, train, weights

from ntalker_ns.edit_trainer import EditTrainer, EditTrainerConfig
from ntalker_ns.editing.filters import FilterEditor
from ntalker_ns.editing.instruct_pix2pix import InstructPix2Pix, InstructPix2PixConfig
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_trainer import TalkerTrainer


class Killed(Exception):
    """Stands for a kill."""


def kill_after(trainer: EditTrainer, edits: int, monkeypatch: Any) -> None:
    """Lets an edit die after it has written so many edited frames."""
    put, written = trainer.dataset_update.store.put.__func__, []  # type: ignore[attr-defined]

    def counting(store: Any, kind: str, *arguments: Any) -> None:
        if kind == "edited":
            if len(written) == edits:
                raise Killed
            written.append(kind)
        put(store, kind, *arguments)

    monkeypatch.setattr(type(trainer.dataset_update.store), "put", counting)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.setattr(type(trainer.dataset_update.store), "put", put)


@pytest.mark.parametrize(
    ("strategy", "edits"), [("progressive", 2), ("progressive", FRAMES + 1), ("iterative", FRAMES + 1)]
)
def test_killed_in_an_update_and_resumed_it_ends_the_same(
    edit: EditTrainer, base: TalkerTrainer, tmp_path: Path, monkeypatch: Any, strategy: str, edits: int
):
    options = {"strategy": strategy, "interval": 3}
    if strategy == "progressive":
        whole, options["interval"] = edit, edit.config.edit.interval
    else:
        whole = train(tiny_edit(tmp_path / "whole", options, base=base.base_dir))
    broken = start(tiny_edit(tmp_path / "broken", options, base=base.base_dir, steps_per_save=4))
    kill_after(broken, edits, monkeypatch)
    calls = []
    edit_frames = FilterEditor.edit
    monkeypatch.setattr(FilterEditor, "edit", lambda *a, **k: calls.append(len(a[1])) or edit_frames(*a, **k))
    resumed = train(tiny_edit(tmp_path / "resumed", options, load_dir=broken.checkpoint_dir, steps_per_save=4))
    if strategy == "progressive":
        # What the broken run had edited of its last update is not edited again.
        assert sum(calls) == 2 * FRAMES - edits
    check_same_end(resumed, whole)


def test_killed_in_training_and_resumed_it_ends_the_same(edit: EditTrainer, base: TalkerTrainer, tmp_path: Path):
    broken = start(tiny_edit(tmp_path / "broken", base=base.base_dir, steps_per_save=4))
    iteration = broken.train_iteration

    def dies(step: int) -> Any:
        if step == 15:
            raise Killed
        return iteration(step)

    broken.train_iteration = dies
    with pytest.raises(Killed):
        broken.train()
    check_same_end(train(tiny_edit(tmp_path / "resumed", load_dir=broken.checkpoint_dir, steps_per_save=4)), edit)


def check_same_end(resumed: EditTrainer, whole: EditTrainer) -> None:
    """Both have the same edited frames and weights."""
    newest = whole.dataset_update.store.newest_of_all("edited", 99)
    assert resumed.dataset_update.store.newest_of_all("edited", 99) == newest
    for frame, step in newest.items():
        ours, theirs = (one.dataset_update.store.get("edited", frame, step) for one in (resumed, whole))
        np.testing.assert_array_equal(ours, theirs)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_pictures_that_are_not_finite_end_an_edit_that_can_be_resumed(
    edit: EditTrainer, base: TalkerTrainer, tmp_path: Path, monkeypatch: Any
):
    edit_frames, calls = FilterEditor.edit, []

    def overflowing(*arguments: Any, **options: Any) -> Any:
        calls.append(edit_frames(*arguments, **options))
        return calls[-1] if len(calls) < FRAMES + 2 else calls[-1] / torch.zeros(())

    broken = start(tiny_edit(tmp_path / "broken", base=base.base_dir))
    with monkeypatch.context() as patch:
        patch.setattr(FilterEditor, "edit", overflowing)
        with pytest.raises(
            NTalkerError, match=r"--editor\.precision bf16 or fp32, and resume with --load-dir (\S+),"
        ) as said:
            broken.train()
    named = Path(str(said.value).split("--load-dir ")[1].split(",")[0])
    check_same_end(train(tiny_edit(tmp_path / "resumed", load_dir=named)), edit)


def test_an_editor_that_does_not_fit_into_memory_is_an_error(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, {"strategy": "iterative", "interval": 3}, base=base.base_dir))
    edit_frames, calls = FilterEditor.edit, []

    def too_large(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", too_large)
    with pytest.raises(NTalkerError, match=r"does not fit into the GPU's memory: .* --load-dir"):
        trainer.train()


@pytest.fixture
def base_without_data(base: TalkerTrainer) -> Iterator[TalkerTrainer]:
    data = base.config.pipeline.datamanager.data
    assert data is not None
    elsewhere = data.rename(data.with_name("elsewhere"))
    yield base
    elsewhere.rename(data)


def test_instruct_pix2pix_killed_in_an_update_ends_the_same(
    base_without_data: TalkerTrainer, tmp_path: Path, monkeypatch: Any
):
    """The paper's editor through diffusers, its weights random; an edit needs no data set."""
    editor = InstructPix2PixConfig(model=str(save_ip2p(tmp_path / "model")), size=None, batch_size=2)
    options = {"updates": 3, "epochs": 3, "lip_epochs": 0, "steps": (2, 4)}

    def config(place: str, **fields: Any) -> EditTrainerConfig:
        return tiny_edit(tmp_path / place, options, instruction="Make him old", editor=editor, **fields)

    whole = train(config("whole", base=base_without_data.base_dir))
    first, last = (frames_of(whole, kind, step).astype(float) for kind, step in (("base", 0), ("edited", 10)))
    assert np.abs(last - first).mean() > 1
    broken = start(config("broken", base=base_without_data.base_dir))
    kill_after(broken, 2 * FRAMES + 2, monkeypatch)
    other = config("other", load_dir=broken.checkpoint_dir)
    other.editor = dataclasses.replace(editor, size=64)
    with pytest.raises(NTalkerError, match=r"was edited with editor\.size None, this one has 64"):
        start(other)
    # Three frames are left, in batches of two.
    batches = []
    edit_frames = InstructPix2Pix.edit
    monkeypatch.setattr(InstructPix2Pix, "edit", lambda *a, **k: batches.append(len(a[1])) or edit_frames(*a, **k))
    resumed = train(config("resumed", load_dir=broken.checkpoint_dir))
    assert batches == [2, 1]
    check_same_end(resumed, whole)


@pytest.mark.parametrize("written", [0, 2])
def test_a_full_disk_before_the_first_edit_leaves_no_run(
    base: TalkerTrainer, tmp_path: Path, monkeypatch: Any, written: int
):
    trainer = start(tiny_edit(tmp_path / "outputs", base=base.base_dir))
    fill_disk_after(written, monkeypatch)
    with pytest.raises(NTalkerError, match=r"No space left on device\): make room\.$"):
        trainer.train()
    assert not list((tmp_path / "outputs").rglob("*.yml"))
    assert not list((tmp_path / "outputs").rglob("*.png"))


def test_a_full_disk_during_an_update_names_the_run_to_resume(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path / "outputs", base=base.base_dir))
    # Of each frame the picture, two opacities, what is behind the head, and the lips; then the first edited one.
    fill_disk_after(5 * FRAMES + 1, monkeypatch)
    with pytest.raises(NTalkerError, match=r"\): make room, and resume with --load-dir (\S+),") as said:
        trainer.train()
    named = Path(str(said.value).split("--load-dir ")[1].split(",")[0])
    assert list(named.glob("step-*.ckpt"))


def fill_disk_after(pictures: int, monkeypatch: Any) -> None:
    """Leaves room for so many pictures of an edit."""
    left = [pictures]

    def write(path: Path, content: bytes) -> int:
        if path.name.endswith(".part.png"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write)


def test_the_viewers_lock_is_free_while_frames_are_edited(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, base=base.base_dir))
    free = []
    edit_frames = FilterEditor.edit

    def looking(*arguments: Any, **options: Any) -> Any:
        free.append(trainer.train_lock.acquire(blocking=False))
        trainer.train_lock.release()
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", looking)
    trainer.train()
    assert free == [True] * (2 * FRAMES)


def test_a_stop_during_an_update_ends_it(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, base=base.base_dir))
    edit_frames = FilterEditor.edit

    def stopping(*arguments: Any, **options: Any) -> Any:
        trainer.shutdown()
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", stopping)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert len(trainer.dataset_update.store.newest_of_all("edited", 0)) == 1
