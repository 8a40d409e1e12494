"""The background plate: the room without the person."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.media.masks import disc

MARGIN = 0.02
"""Distance from the person at which background begins, in sides of the frame: hair is thin and mattes err."""
MOVING = 8.0
"""Mean deviation of observed background from its median, in grey levels of 255, above which it counts as moving."""
BAND = 32
"""Rows that are sorted over the frames at a time: large frames all at once would take gigabytes."""


@dataclass(frozen=True)
class Plate:
    """A background picture and how much of it is true."""

    image: UInt8[np.ndarray, "s s 3"]
    observed: Bool[np.ndarray, "s s"]
    """Pixels that were background in some frames; the others are painted in from around them."""
    deviation: float
    """Mean absolute deviation of background pixels from the plate over time, in grey levels of 255."""

    @property
    def observed_fraction(self) -> float:
        """Fraction of the picture that was seen, 0 to 1."""
        return float(self.observed.mean())

    @property
    def moves(self) -> bool:
        """Whether the background is no single still picture."""
        return self.deviation > MOVING


def background_mask(matte: UInt8[np.ndarray, "256 256"], size: int) -> Bool[np.ndarray, "s s"]:
    """Pixels that surely show the background: away from anything that may be the person."""
    grown = cv2.dilate((matte > 16).astype(np.uint8), disc(round(MARGIN * matte.shape[0])))
    return cv2.resize(grown, (size, size), interpolation=cv2.INTER_NEAREST) == 0


def make_plate(images: Sequence[UInt8[np.ndarray, "s s 3"]], backgrounds: Sequence[Bool[np.ndarray, "s s"]]) -> Plate:
    """Takes the median over frames of what is background in them and paints in the rest.

    Args:
        images: some frames of the clip, RGB (a few dozen, spread over it, are enough).
        backgrounds: for each of them, which pixels surely show the background.

    Returns:
        The plate.
    """
    least, size = max(2, len(images) // 20), len(images[0])

    def band(first: int) -> tuple[np.ndarray, np.ndarray, int, int]:
        rows = slice(first, first + BAND)
        stack, masks = np.stack([image[rows] for image in images]), np.stack([mask[rows] for mask in backgrounds])
        median, observed = _median(stack, masks), masks.sum(axis=0) >= least
        differences = np.abs(stack.astype(np.int16) - median)[masks & observed]
        return median, observed, int(differences.sum()), differences.size

    with ThreadPoolExecutor(2) as pool:
        medians, seen, sums, sizes = zip(*pool.map(band, range(0, size, BAND)), strict=True)
    median, observed = np.concatenate(medians), np.concatenate(seen)
    filled = fill_unknown(median.astype(np.float32), observed)
    plate = np.where(observed[..., None], median, np.rint(filled).clip(0, 255)).astype(np.uint8)
    return Plate(plate, observed, sum(sums) / max(sum(sizes), 1))


def _median(stack: UInt8[np.ndarray, "n h w 3"], masks: Bool[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Median over those frames that a mask names, per pixel."""
    # A 9-bit value beyond white sorts what is not background to the end.
    ranked = np.sort(np.where(masks[..., None], stack, np.uint16(256)), axis=0)
    middle = np.maximum(masks.sum(axis=0) - 1, 0)[None, ..., None] // 2
    return np.take_along_axis(ranked, middle, axis=0)[0].clip(0, 255).astype(np.uint8)


def fill_unknown(image: Float[np.ndarray, "h w c"], known: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w c"]:
    """Fills unknown pixels smoothly from the known ones around them, however large the hole (pull-push pyramid).

    Args:
        image: any values; those of unknown pixels are ignored.
        known: which pixels count.

    Returns:
        The image with unknown pixels replaced; all 0 where nothing is known.
    """
    weight = known.astype(np.float32)
    return _pull_push(np.where(known[..., None], image, 0.0).astype(np.float32), weight)[0]


def _pull_push(premultiplied: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = weight.shape
    value = premultiplied / np.maximum(weight, 1e-6)[..., None]
    if max(height, width) <= 1 or weight.min() >= 1.0:
        return value, weight
    half = ((width + 1) // 2, (height + 1) // 2)
    small_sum = cv2.resize(premultiplied, half, interpolation=cv2.INTER_AREA)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    gain = np.minimum(1.0, 4.0 * small_weight) / np.maximum(small_weight, 1e-6)
    below, _ = _pull_push(small_sum.reshape(*half[::-1], -1) * gain[..., None], small_weight * gain)
    upper = cv2.resize(below, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    share = np.minimum(weight, 1.0)[..., None]
    return share * value + (1.0 - share) * upper, weight
