"""Runs a model over long audio in overlapping chunks, so that memory is bounded."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.windows import HOP

Model = Callable[[Float32[np.ndarray, " samples"]], Float32[np.ndarray, "steps channels"]]
"""A function from a waveform to feature steps."""


def run_in_chunks(
    waveform: Float32[np.ndarray, " samples"], model: Model, margin: int, chunk: int, context: int
) -> Float32[np.ndarray, "steps channels"]:
    """Runs a model with one step per 320 samples over a long waveform, chunk by chunk.

    Each chunk is run with context on both sides, whose steps are dropped. If the model's receptive field is within
    `context`, the result equals that of one run over the whole waveform.

    Args:
        waveform: mono, at the model's sample rate.
        model: returns s steps for 320 s + 2 margin samples.
        margin: samples beyond its own 320 that a step depends on, on each side.
        chunk: steps kept of each run.
        context: further steps on each side of them.

    Returns:
        ceil(samples / 320) steps.
    """
    steps = -(-len(waveform) // HOP)
    padded = np.zeros(steps * HOP + 2 * margin, np.float32)
    padded[margin : margin + len(waveform)] = waveform
    kept = []
    for start in range(0, steps, chunk):
        stop = min(steps, start + chunk)
        first, last = max(0, start - context), min(steps, stop + context)
        output = model(padded[first * HOP : last * HOP + 2 * margin])
        kept.append(output[start - first : stop - first])
    return np.concatenate(kept)
