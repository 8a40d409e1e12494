"""Masks of pictures."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8


def disc(radius: int) -> UInt8[np.ndarray, "d d"]:
    """A disc of ones, 2 radius + 1 px wide: the structuring element of morphological operations."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def connected_to(mask: Bool[np.ndarray, "h w"], seed: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The parts of a mask, connected by edges of pixels, that touch a seed."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    touching = np.zeros(count, bool)
    touching[parts[seed & mask]] = True
    touching[0] = False
    return np.take(touching, np.asarray(parts, np.int32))
