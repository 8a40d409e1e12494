"""The level of speech in a stream, from the sound received so far."""

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.mel import QUIETEST, level_of_power
from ntalker_ns.audio.windows import FEATURE_RATE

HISTORY = 10 * FEATURE_RATE
"""Steps of 20 ms that are remembered: 10 s."""

CONTRAST = 15.0
"""dB between the 95th and the 10th percentile of steps from which on somebody is taken to speak: noise and pauses must
not be amplified to the level of speech."""

_SILENCE = 1e-7
"""Power of a step, -70 dBFS, below which all steps count as equally quiet."""


class RunningLevel:
    """`speech_level` of the last 10 s, held while nobody speaks."""

    def __init__(self, first: float) -> None:
        """
        Args:
            first: the level that holds until somebody speaks, dBFS.
        """
        self.level = first
        self._powers = np.zeros(0)

    def update(self, step: Float32[np.ndarray, "320"]) -> float:
        """The level in dBFS after one more step of sound, at least `QUIETEST`."""
        power = max(_SILENCE, float(np.square(step, dtype=np.float64).mean()))
        self._powers = np.append(self._powers[-HISTORY + 1 :], power)
        quiet, loud = np.percentile(self._powers, [10, 95])
        if loud > quiet * 10.0 ** (CONTRAST / 10.0):
            self.level = max(QUIETEST, level_of_power(self._powers, float(loud)))
        return self.level
