"""The peak is that of the stretch that is watched."""

import time

import numpy as np

from ntalker_ns.evaluation.peak_memory import PeakMemory, resident_gib


def test_memory_that_came_and_went_is_in_the_peak():
    before = resident_gib()
    peak = PeakMemory()
    block = np.ones(32 << 20, np.uint8)
    time.sleep(0.2)
    assert block.all()
    del block
    assert peak.gib() > before + 0.02
