"""Sound and pictures stay in step for hours, whatever the two machines' clocks do and however slow pictures are."""

import jaxtyping
import numpy as np
import pytest
from support.live_head import LoudnessLips
from support.live_stage import make_stage

from ntalker_ns.live.clock import PATIENCE, SoundClock
from ntalker_ns.live.session import Block, Session
from ntalker_ns.live.voice import SECONDS, Voice

STEP = 0.02
"""Seconds between two looks at everything in the simulation."""


class Listener:
    """Plays blocks as they come, by a sound card whose clock is not the server's."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.last = -1
        self.position = 0.0
        self.apart: list[float] = []

    def sound(self, block: Block) -> None:
        assert block.index == self.last + 1
        self.last = block.index

    def picture(self, block: Block, picture: bytes) -> None:
        """It is shown when its block is played, or at once where that is past."""
        self.apart.append(max(0.0, self.position - block.index * SECONDS))

    def cleared(self, index: int) -> None: ...

    def failed(self) -> None: ...

    def play(self, seconds: float) -> None:
        self.position = min(self.position + self.pace * seconds, (self.last + 1) * SECONDS)


@pytest.mark.parametrize("pace", [1.0002, 0.9998])
def test_picture_and_sound_are_less_than_40_ms_apart_after_eight_hours(pace: float, monkeypatch: pytest.MonkeyPatch):
    # Millions of calls: checks of their annotations would take minutes.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    now, rng = 0.0, np.random.default_rng(0)
    listener = Listener(pace)
    lead = 0.12
    session = Session(
        Voice(LoudnessLips(), np.zeros(1, np.float32)), make_stage(), listener, SoundClock(lambda: now), lead
    )
    done, block, least, most = 0.0, None, 1.0, 0.0
    for step in range(round(8 * 3600 / STEP)):
        now = step * STEP
        listener.play(STEP)
        if step % 10 == 0:
            session.clock.report(listener.position)
        session.advance()
        if block is not None and now >= done:
            listener.picture(block, b"")
            block = None
        if block is None and (block := session.to_render(0.06)) is not None:
            done = now + rng.uniform(0.03, 0.07)
        if step > 100:
            ahead = (listener.last + 1) * SECONDS - listener.position
            least, most = min(least, ahead), max(most, ahead)
    # The sound never ran dry, and its delay did not grow.
    assert least > 0.0 and most < lead + 2 * SECONDS
    assert max(listener.apart) < 0.04
    # By the server's clock alone it would be off by seconds.
    assert abs(now - listener.position) > 5.0
    assert len(listener.apart) > 0.4 * listener.last


def test_the_clock_goes_on_between_reports_and_waits_for_a_listener_that_stands_still():
    now = 100.0
    clock = SoundClock(lambda: now)
    now = 160.0
    assert clock.position() == 60.0
    clock.report(58.0)
    now += 0.3
    assert clock.position() == pytest.approx(58.3)
    now += 60.0
    assert clock.position() == 58.0 + PATIENCE


def test_late_reports_do_not_turn_the_clock_back():
    now = 0.0
    clock = SoundClock(lambda: now)
    clock.report(10.0)
    clock.jump(12.0)
    now = 0.1
    clock.report(10.1)
    assert clock.position() == pytest.approx(12.1)
    clock.report(0.0)
    assert clock.position() == pytest.approx(12.1)
    clock.report(12.05)
    assert clock.position() == pytest.approx(12.05)
