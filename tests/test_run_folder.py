"""Checkpoint files: whole or absent, plain enough for torch's weights-only loader, compared by name and shape."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import (
    check_tensors,
    find_checkpoint,
    find_checkpoints,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)


def state(value: float = 1.0) -> dict:
    return {"step": 3, "pipeline": {"weight": torch.full((2,), value)}}


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "step-000000003.ckpt"
    write_checkpoint(state(), path, tmp_path / "part")
    found = read_checkpoint(path)
    assert found["step"] == 3
    assert torch.equal(found["pipeline"]["weight"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_checkpoint_and_no_scratch(tmp_path: Path):
    models = tmp_path / "models"
    models.mkdir()
    path = models / "step-000000003.ckpt"
    write_checkpoint(state(), path, tmp_path / "part")
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint({**state(2.0), "bad": lambda: None}, path, tmp_path / "part")
    assert torch.equal(read_checkpoint(path)["pipeline"]["weight"], torch.ones(2))
    assert list(models.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == [models]


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_cut_checkpoint_is_named(tmp_path: Path, keep: int):
    path = tmp_path / "step-000000003.ckpt"
    write_checkpoint(state(), path, tmp_path / "part")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(NTalkerError, match=r"step-000000003\.ckpt cannot be read"):
        read_checkpoint(path)


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"no checkpoint .*gone\.ckpt"):
        read_checkpoint(tmp_path / "gone.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.ckpt")
    with pytest.raises(NTalkerError, match=r"other\.ckpt is no checkpoint"):
        read_checkpoint(tmp_path / "other.ckpt")
    torch.save(["step", "pipeline"], tmp_path / "list.ckpt")
    with pytest.raises(NTalkerError, match=r"list\.ckpt is no checkpoint"):
        read_checkpoint(tmp_path / "list.ckpt")


def test_the_newest_checkpoint_is_found_among_strays(tmp_path: Path):
    for name in ["step-000000900.ckpt", "step-000001000.ckpt", "step-000002000.ckpt.part", "notes.txt"]:
        (tmp_path / name).touch()
    assert {step: path.name for step, path in find_checkpoints(tmp_path).items()} == {
        900: "step-000000900.ckpt",
        1000: "step-000001000.ckpt",
    }
    assert find_checkpoint(tmp_path).name == "step-000001000.ckpt"
    assert find_checkpoint(tmp_path, 900).name == "step-000000900.ckpt"
    with pytest.raises(NTalkerError, match="no checkpoint of step 7, only of 900, 1000"):
        find_checkpoint(tmp_path, 7)


def test_folders_without_checkpoints_are_named(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no folder"):
        find_checkpoint(tmp_path / "nerfstudio_models")
    with pytest.raises(NTalkerError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)


def draw() -> tuple:
    return random.random(), np.random.rand(3).tolist(), np.random.randn(1).tolist(), torch.rand(3).tolist()


def test_random_state_survives_a_checkpoint(tmp_path: Path):
    np.random.randn(1)  # leaves half of a pair of normal deviates in the state
    path = tmp_path / "step-000000003.ckpt"
    write_checkpoint({**state(), "random": random_state()}, path, tmp_path / "part")
    expected = draw()
    assert draw() != expected
    set_random_state(read_checkpoint(path)["random"])
    assert draw() == expected


def test_tensors_that_fit_pass():
    check_tensors({"a": torch.ones(2)}, {"a": torch.zeros(2)}, "The checkpoint")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "The checkpoint does not fit this model: it lacks a"),
        ({"b": torch.ones(2)}, "it lacks a; it has the unknown b"),
        ({"a": torch.ones(2), "b": torch.ones(2)}, "it has the unknown b"),
        ({"a": torch.ones(3, 1)}, "it has another shape of a (3, 1) instead of (2,)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(found: dict, sentence: str):
    with pytest.raises(NTalkerError) as error:
        check_tensors(found, {"a": torch.ones(2)}, "The checkpoint")
    assert sentence in str(error.value)


def test_many_misfits_are_counted():
    with pytest.raises(NTalkerError, match="lacks p0, p1, p2, p3 and 5 more"):
        check_tensors({}, {f"p{i}": torch.ones(1) for i in range(9)}, "The checkpoint")
