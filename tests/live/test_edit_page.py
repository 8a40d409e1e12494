"""An edit from the page in a real browser: tried on a frame, run to its end, compared and taken back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.browser import a_browser
from support.live_head import SixLips
from support.live_page import opened, served
from support.tiny_talk import tiny_talking_run

from ntalker_ns.live.engine import Engine
from ntalker_ns.live.heads import LiveHeads
from ntalker_ns.runs import load_run
from scripts.benchmarks.live import until

COLOURS = "[...document.getElementById('picture').getContext('2d').getImageData(0, 0, 40, 40).data]"


def shown(page: Any) -> np.ndarray:
    """The picture's colours, once five more have been shown."""
    pictures = page.evaluate("figures.pictures")
    until(page, f"figures.pictures > {pictures} + 5", 120)
    return np.array(page.evaluate(COLOURS)).reshape(40, 40, 4)[..., :3].astype(float)


@pytest.mark.slow
def test_an_edit_takes_the_head_s_place(tmp_path: Path):
    run = tiny_talking_run(tmp_path)
    engine = Engine.of_model(load_run(run / "config.yml").model, SixLips, size=40, sessions=1)
    engine.start()
    try:
        tone, heads = run.parents[3] / "anna/tone.wav", LiveHeads(engine, run)
        with a_browser(tone) as browser, served(engine, heads=heads) as port:
            page = opened(browser, port)
            until(page, "figures.pictures > 5")
            page.select_option("#pose", "still")
            page.select_option("#eyes", "open")
            before = shown(page)
            page.click("summary")
            page.click("#start")
            until(page, "document.getElementById('edit-says').textContent.includes('There is no instruction')")
            page.fill("#instruction", "Make it sepia")
            page.click("#try")
            until(page, "figures.previews === 1", 300)
            assert page.evaluate("document.getElementById('sheet').naturalWidth") == 80
            for field, value in (("updates", 1), ("frames", 4), ("epochs", 6)):
                page.fill(f"#{field}", str(value))
            page.click("#start")
            until(page, "figures.edit.running && document.getElementById('bar').value > 0.1", 900)
            # The tab is closed: the edit goes on, and another tab shows it.
            page.close()
            page = opened(browser, port)
            until(page, "figures.edit?.running")
            page.select_option("#pose", "still")
            page.select_option("#eyes", "open")
            page.click("summary")
            until(page, "figures.edit.heads.length === 2", 900)
            until(page, "document.getElementById('edit-says').textContent.startsWith('Done: Make it sepia')")
            after = shown(page)
            assert np.abs(after - before).mean() > 8
            assert page.is_visible("#refinement") and page.is_visible("#wipe")
            page.evaluate("w = document.getElementById('wipe'); w.value = 0.5; w.dispatchEvent(new Event('input'))")
            wiped = shown(page)
            assert np.abs(wiped[:, :18] - before[:, :18]).mean() < 4
            assert np.abs(wiped[:, 22:] - after[:, 22:]).mean() < 4
            page.select_option("#head", "0")
            until(page, "figures.edit.shown === 0")
            assert np.abs(shown(page) - before).mean() < 4
            page.fill("#instruction", "Turn her into a bronze statue")
            page.click("#start")
            until(page, "figures.edit.running && figures.edit.fraction > 0", 900)
            page.click("#stop")
            until(
                page,
                "!figures.edit.running && document.getElementById('edit-says').textContent.startsWith('Stopped')",
                60,
            )
            assert page.evaluate("figures.edit.heads.length") == 2
            assert np.abs(shown(page) - before).mean() < 4
            assert page.faults == []
    finally:
        engine.stop()
