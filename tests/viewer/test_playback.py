"""The clock of the viewer's sound: frames follow the seconds that pass, through pauses, jumps and repeats."""

from ntalker_ns.viewer.playback import Playback


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_it_plays_pauses_and_stops_at_its_end():
    clock = Clock()
    playback = Playback(50, 25.0, clock)
    assert (playback.frame(), playback.playing) == (0, False)
    assert playback.play() == 0.0
    clock.time += 0.5
    assert playback.frame() == 12
    playback.pause()
    clock.time += 9.0
    assert (playback.frame(), playback.playing) == (12, False)
    assert playback.play() == 0.5
    clock.time += 1.6
    assert (playback.frame(), playback.playing) == (49, False)
    playback.pause()
    assert playback.play() == 0.0  # From the beginning again.


def test_it_repeats():
    clock = Clock()
    playback = Playback(50, 25.0, clock)
    playback.loop = True
    playback.seek(49)
    playback.play()
    clock.time += 0.1
    assert (playback.frame(), playback.repeats(), playback.playing) == (1, 1, True)
    clock.time += 20.0
    assert (playback.frame(), playback.repeats()) == (1, 11)


def test_a_jump_stays_within_the_sound_and_goes_on():
    clock = Clock()
    playback = Playback(50, 25.0, clock)
    playback.seek(90)
    assert playback.frame() == 49
    playback.play()
    playback.seek(10)
    clock.time += 0.2
    assert (playback.frame(), playback.playing) == (15, True)
    playback.load(5, 25.0)
    assert (playback.frame(), playback.playing, playback.seconds) == (0, False, 0.2)
