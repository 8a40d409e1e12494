"""What the examples in docstrings take for granted, and the tests of scripts/examples: a head, its data, a voice."""

import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rich
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns import runs
from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.demo.clip import make_clip
from ntalker_ns.media.sound import write_wav
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

NAMES = {
    "run": "example_run",
    "data": "example_data",
    "clip": "example_clip",
    "speech": "example_voice",
    "folder": "tmp_path",
}
"""Names in examples, and their fixtures."""

SLOW = {"ntalker_ns.capture.process.process_clip", "ntalker_ns.runs.train", "ntalker_ns.runs.edit"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow examples."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def example_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "ball", 33, channels=CHANNELS)


@pytest.fixture(scope="session")
def example_run(example_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of a few steps."""
    return runs.train_config(tiny_config(example_data, tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="session")
def example_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the made-up head, with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, 3.0, 224, seed=2)
    return path


@pytest.fixture(scope="session")
def example_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of a second of a tone."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    write_wav(path, (0.3 * np.sin(np.arange(3200) / 5.0)).astype(np.float32))
    return path


@pytest.fixture(autouse=True)
def names_of_examples(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gives a docstring's example the names that it uses; progress is printed beside its output."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    source = "".join(example.source for example in request.node.dtest.examples)
    for name, fixture in NAMES.items():
        if re.search(rf"\b{name}\b", source):
            doctest_namespace[name] = request.getfixturevalue(fixture)
    # nerfstudio prints a training's progress as plain text, not through a console.
    monkeypatch.setattr("nerfstudio.utils.writer.print", partial(print, file=sys.stderr), raising=False)
    for console in (rich.get_console(), CONSOLE):
        monkeypatch.setattr(console, "stderr", True)
    monkeypatch.chdir(request.getfixturevalue("tmp_path"))
