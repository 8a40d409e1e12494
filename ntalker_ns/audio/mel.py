"""Log-mel features: they need no weights, and a second of audio takes a few milliseconds."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32

from ntalker_ns.audio.clock import SAMPLE_RATE
from ntalker_ns.audio.windows import HOP, windows_of_track

CHANNELS = 32
"""Mel bands."""

LOWEST, HIGHEST = 50.0, 8000.0
"""Range of the bands in Hz."""

FRAME = 640
"""Length of the Hann window in samples: 40 ms, two steps."""

FLOOR = -60.0
"""Level in dB relative to that of speech below which features are clipped, as silence.

Mouth openings are predicted equally well with -50 to -80 (correlation 0.62 to 0.63 on held-out thirds of a 20 s clip),
worse with -40 (0.60) and -30 (0.51); a higher floor tolerates more background noise.
"""

QUIETEST = -60.0
"""Lowest level of speech in dBFS: quieter recordings count as silence and are not amplified."""

CENTRE, SPREAD = -38.0, 14.0
"""Mean and standard deviation of log-mel speech relative to its level, in dB."""

SILENCE = (FLOOR - CENTRE) / SPREAD
"""The feature value of silence, also before the start and after the end."""


def mel_windows(
    waveform: Float32[np.ndarray, " samples"], num_frames: int, level: float | None = None
) -> Float32[np.ndarray, "num_frames 16 channels"]:
    """Log-mel windows of a sound, one for each video frame.

    Args:
        waveform: mono, 16 kHz.
        num_frames: number of frames at 25 fps.
        level: the level of speech in dBFS, in a stream the level so far; None: measured on this waveform.

    Returns:
        Windows with mean 0 and standard deviation 1 on speech, about; `SILENCE` where there is none.
    """
    return windows_of_track(mel_track(waveform, level), num_frames, padding=SILENCE)


def mel_track(
    waveform: Float32[np.ndarray, " samples"], level: float | None = None
) -> Float32[np.ndarray, "steps channels"]:
    """Log-mel features at 50 Hz; step k is centred on the middle of samples 320 k .. 320 (k + 1).

    Args:
        waveform: mono, 16 kHz.
        level: the level of speech in dBFS; None: measured on this waveform.

    Returns:
        ceil(samples / 320) steps.
    """
    level = speech_level(waveform) if level is None else level
    power = spectrogram(waveform) @ mel_filters().T
    decibels = 10.0 * np.log10(np.maximum(power, 1e-20)) - level
    return ((np.maximum(decibels, FLOOR) - CENTRE) / SPREAD).astype(np.float32)


def speech_level(waveform: Float32[np.ndarray, " samples"]) -> float:
    """The level of speech, by which features are normalised, so that they do not depend on the recording's volume.

    It is the mean power of the 20 ms steps within 25 dB of the 95th percentile, which excludes pauses.

    Args:
        waveform: mono, in [-1, 1].

    Returns:
        The level in dBFS (0: a mean square of 1), at least `QUIETEST`.
    """
    steps = -(-len(waveform) // HOP)
    padded = np.zeros(steps * HOP, np.float64)
    padded[: len(waveform)] = waveform
    power = np.square(padded).reshape(steps, HOP).mean(axis=1)
    return max(QUIETEST, level_of_power(power, float(np.percentile(power, 95))))


def level_of_power(power: Float[np.ndarray, " steps"], loud: float) -> float:
    """The mean power in dBFS of the steps that are within 25 dB of a loud one's."""
    active = power[power >= loud * 10**-2.5]
    return 10.0 * float(np.log10(max(active.mean(), 1e-20)))


def spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Power spectrum (steps, FRAME / 2 + 1); its sum over bins is the mean square under the window."""
    steps = -(-len(waveform) // HOP)
    margin = (FRAME - HOP) // 2
    padded = np.zeros(steps * HOP + 2 * margin, np.float32)
    padded[margin : margin + len(waveform)] = waveform
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    hann = np.hanning(FRAME + 1)[:-1].astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    spectrum[:, 1:-1] *= 2.0
    return spectrum / (FRAME * np.square(hann).sum())


@lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """Triangular mel filters of height 1, (channels, bins): those of `librosa.filters.mel(.., norm=None)`.

    librosa's own function compiles for many seconds at its first call.
    """
    lowest, highest = _mel_of_hertz(np.array([LOWEST, HIGHEST]))
    edges = _hertz_of_mel(np.linspace(lowest, highest, CHANNELS + 2))[:, None]
    bins = np.fft.rfftfreq(FRAME, 1.0 / SAMPLE_RATE)[None, :]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def _mel_of_hertz(hertz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear to 1 kHz (15 mel), then 27 mel for each factor of 6.4."""
    above = 15.0 + 27.0 * np.log(np.maximum(hertz, 1e-9) / 1000.0) / np.log(6.4)
    return np.where(hertz < 1000.0, hertz * 0.015, above)


def _hertz_of_mel(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15.0, mel / 0.015, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))
