"""A headless Chromium for tests of pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import live


@contextmanager
def a_browser(microphone: Path) -> Iterator[Any]:
    """Chromium, driven by Playwright. Skips the test where there is none.

    Args:
        microphone: a wav file that its microphone plays again and again.
    """
    program = live.chromium()
    if program is None:
        pytest.skip("there is no chromium: apt install chromium, and the live page is tested too")
    with live.a_browser(program, microphone) as browser:
        yield browser
