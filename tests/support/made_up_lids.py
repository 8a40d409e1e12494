"""Keypoints of a made-up face, and lids around its eyes."""

import numpy as np

KEYPOINTS = {
    "mouth": np.array([0.0, -0.5, -0.3]),
    "chin": np.array([0.0, -0.45, -0.55]),
    "left_eye": np.array([0.2, -0.45, 0.1]),
    "right_eye": np.array([-0.2, -0.45, 0.1]),
    "nose": np.array([0.0, -0.6, -0.1]),
}
"""World units."""


def open_lids(keypoints: dict[str, np.ndarray]) -> np.ndarray:
    """Lids 0.08 apart and 0.2 wide around the eyes, with skin up to 0.1 over them."""
    across = np.linspace(-1, 1, 9)
    eyes = []
    for name in ("right_eye", "left_eye"):
        x, _, z = keypoints[name]
        gap = 0.08 * (1 - across**2)
        eyes.append(np.stack([x + 0.1 * across, z + 0 * gap, z + gap, z + gap + 0.1], axis=1))
    return np.stack(eyes).astype(np.float32)
