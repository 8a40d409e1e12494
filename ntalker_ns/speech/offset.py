"""By how much a clip's sound and picture are out of step, from the agreement of predicted and measured mouth openings.

Zero is where they are in people who are known to be in step: the prior over speakers was learned from such clips, and
from others moved to agree with them. Natural anticipation, lips that lead their sound, is in the prior.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.whisper import load_whisper
from ntalker_ns.speech.prior import LipPrior, load_prior, opening_codes, window_inputs

RANGE = 8
"""Frames of 40 ms by which the mouth may be early or late: 320 ms."""

PER_FRAME = 2
"""Lags that are tried in a frame: those of the features, 20 ms apart."""

AWAY = 4
"""Frames from the peak at which a second one is a rival."""

LEAST_CORRELATION, LEAST_MARGIN = 0.35, 0.15
"""What a peak must reach, by itself and above its rivals. With 46 clips of a bank, each speaker left out, peaks of 45
pass; all are within a frame of what is known of them."""


@dataclass(frozen=True)
class SyncCurve:
    """Correlation of predicted and measured mouth openings by lag."""

    lags: Float[np.ndarray, " lags"]
    """Frames of 40 ms by which the mouth moves later than the sound."""
    correlations: Float[np.ndarray, " lags"]

    @property
    def peak(self) -> float:
        """The highest correlation."""
        return float(self.correlations.max())

    @property
    def lag(self) -> float:
        """Where it is, between lags by a parabola through the highest three; frames."""
        best = int(np.argmax(self.correlations))
        if best in (0, len(self.lags) - 1):
            return float(self.lags[best])
        before, top, after = self.correlations[best - 1 : best + 2]
        curvature = before - 2.0 * top + after
        step = self.lags[1] - self.lags[0]
        return float(self.lags[best] + (0.5 * step * (before - after) / curvature if curvature < 0 else 0.0))

    @property
    def margin(self) -> float:
        """How far the peak stands above every correlation that is more than `AWAY` frames from it."""
        rivals = self.correlations[np.abs(self.lags - self.lag) > AWAY]
        return self.peak - float(rivals.max())

    @property
    def is_confident(self) -> bool:
        """Whether the peak is high, alone, and not at the end of the range."""
        inside = abs(self.lag) < RANGE - 0.5
        return inside and self.peak >= LEAST_CORRELATION and self.margin >= LEAST_MARGIN


def sync_curve(
    waveform: Float32[np.ndarray, " samples"], openings: Float[np.ndarray, " frames"], prior: LipPrior | None = None
) -> SyncCurve:
    """Compares a clip's sound with its mouth.

    Args:
        waveform: mono, 16 kHz, from the first frame on.
        openings: of the mouth at 25 fps, in any unit; NaN where it is not known.
        prior: over speakers; None takes the one that comes with the package.
    """
    prior = load_prior() if prior is None else prior
    predicted = predicted_openings(waveform, len(openings), prior)
    lags = np.arange(-RANGE * PER_FRAME, RANGE * PER_FRAME + 1)
    frames = np.arange(len(openings))
    correlations = []
    for lag in lags:
        place = PER_FRAME * frames - lag
        usable = np.isfinite(openings) & (place >= 0) & (place < len(predicted))
        correlations.append(_correlation(predicted[place[usable]], openings[usable]))
    return SyncCurve(lags / PER_FRAME, np.array(correlations))


def shifted(waveform: Float32[np.ndarray, " samples"], lag: float) -> Float32[np.ndarray, " samples"]:
    """Sound moved to where its mouth movements are.

    Args:
        waveform: mono, 16 kHz.
        lag: frames of 40 ms by which the mouth moves later than the sound.
    """
    samples = round(lag * SAMPLE_RATE / FPS)
    if samples >= 0:
        return np.pad(waveform, (samples, 0))[: len(waveform)]
    return np.pad(waveform, (0, -samples))[-samples:]


def predicted_openings(
    waveform: Float32[np.ndarray, " samples"], num_frames: int, prior: LipPrior
) -> Float[np.ndarray, " steps"]:
    """The mouth opening that the prior predicts at 50 Hz, without scale."""
    features = load_whisper()
    half_frame = SAMPLE_RATE // FPS // PER_FRAME
    at_frames, between = (
        window_inputs(torch.from_numpy(features.windows(sound, num_frames)).double())
        for sound in (waveform, waveform[half_frame:])
    )
    inputs = torch.stack([at_frames, between], dim=1).flatten(0, 1)
    return prior.codes(inputs - inputs.mean(dim=0)).numpy() @ opening_codes(prior)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of them does not vary, or there are fewer than a second of frames."""
    if len(one) < FPS or one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
