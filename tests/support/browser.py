"""A headless Chromium for tests of pages."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


@contextmanager
def a_browser(microphone: Path) -> Iterator[Any]:
    """Chromium, driven by Playwright. Skips the test where there is none.

    Args:
        microphone: a wav file that its microphone plays again and again.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium: apt install chromium, and the live page is tested too")
    from playwright.sync_api import sync_playwright

    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


def until(page: Any, expression: str, seconds: float = 20.0) -> Any:
    """Waits until an expression of a page is true; its content security policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"{expression}: {value}; {page.evaluate('JSON.stringify(figures)')}"
        time.sleep(0.03)
    return value
