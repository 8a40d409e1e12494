"""Long sound through a model in overlapping chunks, so that memory stays bounded."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.windows import HOP

Model = Callable[[Float32[np.ndarray, " samples"]], Float32[np.ndarray, "steps channels"]]


def run_in_chunks(
    waveform: Float32[np.ndarray, " samples"], model: Model, margin: int, chunk: int, context: int
) -> Float32[np.ndarray, "steps channels"]:
    """Runs a model of 320-sample steps over a long waveform, a chunk at a time.

    Every chunk is run with its neighbourhood on both sides, whose steps are then thrown away: where the model
    looks no further than `context`, the result is that of one run over everything.

    Args:
        waveform: the sound, at the model's sample rate.
        model: gives s steps for 320 s + 2 margin samples.
        margin: samples on each side that the model's first and last step see beyond their own 320.
        chunk: steps to keep of each run.
        context: steps to run on each side of those.

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
