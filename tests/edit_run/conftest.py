"""A tiny base and a tiny edit of it, which the tests of this folder share."""

from pathlib import Path

import pytest
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import tiny_edit, train_base
from support.tiny_run import train

from ntalker_ns.edit_trainer import EditTrainer
from ntalker_ns.talker_trainer import TalkerTrainer


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def base(outputs: Path) -> TalkerTrainer:
    return train_base(write_tiny_clip(outputs.parent / "anna"), outputs)


@pytest.fixture(scope="session")
def edit(outputs: Path, base: TalkerTrainer) -> EditTrainer:
    return train(tiny_edit(outputs))
