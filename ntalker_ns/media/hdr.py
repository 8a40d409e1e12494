"""High-dynamic-range pictures converted to sRGB: HLG, which phones record, and PQ, which discs and streams use."""

from functools import cache

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from numba import njit

WHITE = 203.0
"""Reference white in cd/m2 (BT.2408): the luminance that becomes white in sRGB."""
PQ_PEAK = 10000.0
"""Luminance in cd/m2 of the largest PQ signal."""
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
"""Peak luminance in cd/m2 of the reference display for HLG, and its system gamma (BT.2100)."""

LEVELS = 65535
"""Largest index of the tables below."""
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Luminance of BT.2020's primaries."""
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Matrix from linear RGB with BT.2020's primaries to BT.709's (BT.2087)."""


def pq_to_srgb(image: UInt16[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a picture coded with PQ to sRGB; the reference white becomes white, brighter values are clipped.

    Args:
        image: BT.2020 RGB (BT.2100), in the full range of 16 bits; colours outside BT.709 are clipped too.
    """
    return _converted(image, *_pq_tables())


def hlg_to_srgb(image: UInt16[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a picture coded with HLG, see `pq_to_srgb`."""
    return _converted(image, *_hlg_tables())


Table = Float32[np.ndarray, " 65536"]


@cache
def _pq_tables() -> tuple[Table, Table]:
    """Linear light of a channel in [0, 1] by its code, and a gain by the pixel's luminance that makes white 1."""
    steps = np.linspace(0.0, 1.0, LEVELS + 1)
    root = steps ** (32.0 / 2523.0)
    light = (np.maximum(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)) ** (16384.0 / 2610.0)
    return light.astype(np.float32), np.full(LEVELS + 1, PQ_PEAK / WHITE, np.float32)


@cache
def _hlg_tables() -> tuple[Table, Table]:
    """See `_pq_tables`. Light is the scene's; the gain includes the system gamma, so that their product is the
    display's."""
    steps = np.linspace(0.0, 1.0, LEVELS + 1)
    light = np.where(steps <= 0.5, steps**2 / 3.0, (np.exp((steps - 0.55991073) / 0.17883277) + 0.28466892) / 12.0)
    gain = HLG_PEAK / WHITE * steps ** (HLG_GAMMA - 1.0)
    return light.astype(np.float32), gain.astype(np.float32)


@cache
def _srgb_codes() -> UInt8[np.ndarray, " 65536"]:
    """sRGB codes by linear light."""
    light = np.linspace(0.0, 1.0, LEVELS + 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1.0 / 2.4) - 0.055)
    return (255.0 * coded + 0.5).astype(np.uint8)


def _converted(image: UInt16[np.ndarray, "h w 3"], light: Table, gain: Table) -> UInt8[np.ndarray, "h w 3"]:
    converted = np.empty(image.shape, np.uint8)
    _convert(image, light, gain, _srgb_codes(), converted)
    return converted


# numpy takes 0.2 s for a frame of 1080 lines, this a fifth of that, and a clip is read twice.
@njit
def _convert(image, light, gain, codes, converted):
    """Writes the converted picture."""
    steps = np.float32(LEVELS)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = light[image[y, x, 0]], light[image[y, x, 1]], light[image[y, x, 2]]
            luminance = LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b
            scale = gain[int(min(luminance, np.float32(1.0)) * steps)] * steps
            for i in range(3):
                level = scale * (TO_BT709[i, 0] * r + TO_BT709[i, 1] * g + TO_BT709[i, 2] * b)
                converted[y, x, i] = codes[int(min(max(level, np.float32(0.0)), steps))]
