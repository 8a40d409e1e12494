"""Sounds made of formulas."""

import numpy as np
from jaxtyping import Float32


def speechlike(seconds: float, seed: int = 0) -> Float32[np.ndarray, " samples"]:
    """Harmonics of 120 Hz, switched on and off, over a little noise; 16 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 20))
    return (0.1 * voice * (np.sin(2 * np.pi * 3 * time) > 0) + 0.002 * rng.standard_normal(len(time))).astype(
        np.float32
    )
