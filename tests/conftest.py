"""What several tests share: the made-up clip, its data set, and speech it does not contain."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from support.annotations import CHECKER, checked_modules

install_import_hook(checked_modules(), CHECKER)
pytest_plugins = ["support.examples"]

from ntalker_ns.demo.clip import ClipTruth  # noqa: E402 (the hook comes before the first module)

CLIP_SECONDS, CLIP_SIZE = 3.0, 224


@dataclass(frozen=True)
class DemoClip:
    """A made-up clip and what is true of it."""

    path: Path
    truth: ClipTruth


@pytest.fixture(scope="session", autouse=True)
def fixed_threads() -> Iterator[None]:
    """The number of threads stays as it is: the order of sums follows it, and runs are compared with each other."""
    from ntalker_ns.training import threads, versioned

    with pytest.MonkeyPatch.context() as patch:
        # Caches complain about writes that are not counted.
        patch.setattr(versioned, "COMPARE_VALUES", True)
        patch.setattr(threads, "_process_share", lambda: threads.CoreShare(1))
        yield


@pytest.fixture(autouse=True)
def no_writers_of_other_tests() -> Iterator[None]:
    """nerfstudio's event writers are global: they would go on writing into the folder of another test's run."""
    yield
    if "nerfstudio.utils.writer" in sys.modules:
        sys.modules["nerfstudio.utils.writer"].EVENT_WRITERS.clear()


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory: pytest.TempPathFactory) -> DemoClip:
    """Three seconds of the made-up head, 224 px, with sound."""
    from ntalker_ns.demo.clip import make_clip

    path = tmp_path_factory.mktemp("demo_clip") / "clip.mp4"
    return DemoClip(path, make_clip(path, CLIP_SECONDS, CLIP_SIZE, seed=2))


@pytest.fixture(scope="session")
def processed_clip(demo_clip: DemoClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up clip as a data set; tests that change it copy it first."""
    from ntalker_ns.capture.process import ProcessOptions, process_clip

    folder = tmp_path_factory.mktemp("processed_clip") / "data"
    process_clip(demo_clip.path, folder, ProcessOptions(size=CLIP_SIZE))
    return folder


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of speech that the made-up clip does not contain, as a wav file."""
    from ntalker_ns.demo.speech import NEW_TEXT, write_speech

    return write_speech(tmp_path_factory.mktemp("speech") / "speech.wav", NEW_TEXT, seconds=2.0)
