"""A per-clip colour model that tells hair from skin and clothes."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

BINS = 32
"""Bins per colour axis."""
SPREAD = 1.2
"""Standard deviation of the smoothing between bins: a colour seen makes its neighbours likely."""


@dataclass(frozen=True)
class ColourModel:
    """How much likelier a colour is in hair than in neck or clothes."""

    log_odds: Float32[np.ndarray, "bins bins bins"]

    def __call__(self, lab: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
        """Log odds of hair per pixel of an 8-bit CIELAB image."""
        return np.take(self.log_odds, _bins(lab))


def fit_colour_model(
    lab: UInt8[np.ndarray, "n 3"], hair: Float[np.ndarray, "n"], other: Float[np.ndarray, "n"]
) -> ColourModel:
    """Fits the model to examples.

    Args:
        lab: CIELAB colours as `to_lab` gives them.
        hair: how surely each is hair, 0 to 1.
        other: how surely each is neck, face skin or clothes.
    """
    odds = np.log(_density(lab, hair)) - np.log(_density(lab, other))
    return ColourModel(np.clip(odds, -4.0, 4.0).astype(np.float32))


def to_lab(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB to 8-bit CIELAB; chroma is stretched, for hair, skin and cloth use little of its range."""
    same = np.arange(256)
    stretched = ((same - 128) * 2 + 128).clip(0, 255)
    table = np.stack([same, stretched, stretched], axis=-1)[None].astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), table), np.uint8)


def _bins(lab: UInt8[np.ndarray, "... 3"]) -> Int32[np.ndarray, "..."]:
    """Which bin each colour falls into."""
    light, a, b = (lab[..., k].astype(np.int32) >> 3 for k in range(3))
    return (light * BINS + a) * BINS + b


def _density(colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    counts = np.bincount(_bins(colours), weights=weight, minlength=BINS**3).reshape(BINS, BINS, BINS)
    smooth = gaussian_filter(counts.astype(np.float64), SPREAD)
    return (smooth + 1e-9) / (smooth.sum() + 1e-9) + 2e-6
