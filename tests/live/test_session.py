"""A session's time line: which pictures are rendered, and what an interruption does to those that were not."""

import time

import numpy as np
import pytest
from support.live_head import DrawnPictures, LoudnessLips, drawn_engine
from support.live_stage import make_stage

from ntalker_ns.live.clock import SoundClock
from ntalker_ns.live.engine import SLOW
from ntalker_ns.live.session import Block, Session
from ntalker_ns.live.voice import BLOCK, SECONDS, Voice


class Kept:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.sounds: list[Block] = []
        self.cleared_at: list[int] = []

    def sound(self, block: Block) -> None:
        self.sounds.append(block)

    def picture(self, block: Block, picture: bytes) -> None: ...

    def cleared(self, index: int) -> None:
        self.cleared_at.append(index)

    def failed(self) -> None: ...


class Simulated:
    """A session under a clock that is set by hand."""

    def __init__(self, lead: float = 0.1) -> None:
        self.now, self.outlet = 0.0, Kept()
        voice = Voice(LoudnessLips(), np.zeros(1, np.float32))
        self.session = Session(voice, make_stage(), self.outlet, SoundClock(lambda: self.now), lead)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.session.advance()


def test_blocks_are_made_ahead_of_the_sound_by_the_lead():
    run = Simulated(lead=0.1)
    run.advance(0.0)
    assert [block.index for block in run.outlet.sounds] == [0, 1, 2]
    run.advance(0.0201)
    assert run.outlet.sounds[-1].index == 3


def test_every_picture_is_rendered_where_there_is_time_and_else_those_that_will_be_in_time():
    run = Simulated(lead=0.1)
    run.advance(0.0)
    quick = [block.index for _ in range(4) if (block := run.session.to_render(0.0)) is not None]
    assert quick == [0, 1, 2]
    slow = Simulated(lead=1.0)
    slow.advance(0.5)
    # 0.5 s into the sound, a picture that takes 0.25 s is in time for the block that begins at 0.76 s.
    first = slow.session.to_render(0.25)
    assert first is not None and first.index == 19
    # Where none will be in time the newest is shown, late.
    newest = slow.session.to_render(5.0)
    assert newest is not None and newest.index == slow.outlet.sounds[-1].index
    assert slow.session.to_render(0.25) is None


def test_an_interruption_is_in_the_first_picture_after_it():
    run = Simulated(lead=0.2)
    run.session.say(np.ones(100 * BLOCK, np.float32))
    run.advance(0.0)
    run.advance(2.0)
    spoken_last = run.outlet.sounds[-1]
    assert spoken_last.spoken.speaking
    run.session.interrupt()
    assert run.outlet.cleared_at == [spoken_last.index + 1]
    run.advance(0.0)
    shown = run.session.to_render(0.02)
    assert shown is not None
    # It takes its turn as soon as it can be rendered: less than 80 ms after the order.
    assert (shown.index - run.outlet.cleared_at[0]) * SECONDS < 0.08
    assert not shown.spoken.speaking and shown.spoken.lips[0] < spoken_last.spoken.lips[0]


@pytest.mark.parametrize("seconds", [0.002, 0.05])
def test_the_first_picture_after_an_interruption_is_coarse_where_pictures_are_slow(seconds: float):
    with drawn_engine(seconds) as engine:
        session = engine.open(Kept())
        assert session is not None and isinstance(engine.pictures, DrawnPictures)
        for _ in range(2):
            rendered = len(engine.pictures.coarse)
            session.interrupt()
            while len(engine.pictures.coarse) < rendered + 6:
                time.sleep(0.01)
            # One may have been under way.
            assert sum(engine.pictures.coarse[rendered:]) == (seconds > SLOW)


def test_a_look_applies_to_the_next_block():
    run = Simulated()
    run.advance(0.0)
    run.session.look = run.session.look.changed({"background": "#00ff00", "pose": "still"}, edited=False)
    run.advance(0.1)
    assert run.outlet.sounds[0].look.background == "plate"
    assert run.outlet.sounds[-1].look.background == "#00ff00"
