"""Lids around made-up eyes."""

import numpy as np


def open_lids(keypoints: dict[str, np.ndarray]) -> np.ndarray:
    """Lids 0.08 apart and 0.2 wide around the eyes, with skin up to 0.1 over them."""
    across = np.linspace(-1, 1, 9)
    eyes = []
    for name in ("right_eye", "left_eye"):
        x, _, z = keypoints[name]
        gap = 0.08 * (1 - across**2)
        eyes.append(np.stack([x + 0.1 * across, z + 0 * gap, z + gap, z + gap + 0.1], axis=1))
    return np.stack(eyes).astype(np.float32)
