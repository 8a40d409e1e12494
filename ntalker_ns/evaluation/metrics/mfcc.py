"""Mel-frequency cepstra as SyncNet was trained on: those of the package python_speech_features, with its defaults."""

import numpy as np
from jaxtyping import Float

SAMPLE_RATE = 16000
WINDOW, STEP = 400, 160
"""Samples of an analysis window (25 ms, rectangular) and between two of them (10 ms: four a video frame)."""
FFT = 512
FILTERS = 26
COEFFICIENTS = 13
PRE_EMPHASIS = 0.97
LIFTER = 22


def mfcc(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "steps 13"]:
    """Thirteen coefficients every 10 ms; the first is the logarithm of the window's energy.

    Args:
        waveform: mono, 16 kHz, in the units of 16-bit samples (-32768 to 32767): SyncNet depends on loudness.

    Returns:
        float64; one step for each whole or started 10 ms after the first window, which a short sound does not fill.
    """
    from scipy.fft import dct

    samples = np.asarray(waveform, np.float64)
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    power = np.square(np.abs(np.fft.rfft(_windows(emphasised), FFT))) / FFT
    energy = _positive(power.sum(axis=1))
    bands = _positive(power @ mel_filters().T)
    cepstra = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :COEFFICIENTS]
    cepstra *= 1.0 + LIFTER / 2.0 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra


def mel_filters() -> Float[np.ndarray, "26 257"]:
    """Triangles between points evenly spaced in mel (2595 log10(1 + f / 700)) from 0 to 8 kHz, at whole FFT bins."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, FILTERS + 2) / 2595.0) - 1.0)
    edges = np.floor((FFT + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(FFT // 2 + 1)
    filters = np.zeros((FILTERS, len(bins)))
    for row, (low, middle, high) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rising, falling = (bins >= low) & (bins < middle), (bins >= middle) & (bins < high)
        filters[row, rising] = (bins[rising] - low) / (middle - low)
        filters[row, falling] = (high - bins[falling]) / (high - middle)
    return filters


def _windows(samples: np.ndarray) -> np.ndarray:
    count = 1 + max(0, -(-(len(samples) - WINDOW) // STEP))
    padded = np.pad(samples, (0, max(0, (count - 1) * STEP + WINDOW - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP][:count]


def _positive(values: np.ndarray) -> np.ndarray:
    """The package's guard against the logarithm of zero."""
    return np.where(values == 0.0, np.finfo(float).eps, values)
