"""The peak is that of the stretch that is watched."""

import mmap
import time

from ntalker_ns.evaluation.peak_memory import PeakMemory, resident_gib


def test_memory_that_came_and_went_is_in_the_peak():
    before = resident_gib()
    peak = PeakMemory()
    # Not through malloc, which hands out again what the process freed before.
    with mmap.mmap(-1, 32 << 20) as block:
        block.write(b"1" * len(block))
        time.sleep(0.2)
    assert peak.gib() > before + 0.02
