"""Random choice of training pixels and frames."""

import numpy as np
from jaxtyping import Float, Int

Pixels = tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"]]
"""x and y of pixels."""

EYE_LEVELS = 5
"""Bins of eye openness, for drawing frames."""
EYE_FRACTION = 0.25
"""Fraction of the frames that is drawn evenly over those bins."""


def anywhere(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Pixels:
    """Pixels uniformly from a picture of this width and height."""
    return rng.integers(0, size[0], count), rng.integers(0, size[1], count)


def in_box(rng: np.random.Generator, count: int, box: Float[np.ndarray, "4"], size: tuple[int, int]) -> Pixels:
    """Pixels uniformly from a box (x0, y0, x1, y1 in px), cut to the picture; anywhere if none of it is in there."""
    low = np.clip(np.floor(box[:2]), 0, size).astype(int)
    high = np.clip(np.ceil(box[2:]), 0, size).astype(int)
    if (high <= low).any():
        return anywhere(rng, count, size)
    return rng.integers(low[0], high[0], count), rng.integers(low[1], high[1], count)


def in_spans(rng: np.random.Generator, count: int, spans: Int[np.ndarray, "h 2"], size: tuple[int, int]) -> Pixels:
    """Pixels uniformly from one span [x0, x1) in each row; anywhere if all are empty."""
    ends = np.cumsum(spans[:, 1] - spans[:, 0])
    if ends[-1] == 0:
        return anywhere(rng, count, size)
    place = np.sort(rng.integers(0, ends[-1], count))  # In order, the pixels lie near each other in memory.
    y = np.searchsorted(ends, place, side="right")
    return spans[y, 1] - (ends[y] - place), y


def patch(
    rng: np.random.Generator, patch_size: int, box: Float[np.ndarray, "4"] | None, size: tuple[int, int]
) -> Pixels:
    """A square patch in the picture, row by row.

    Args:
        rng: source of the place.
        patch_size: px a side, at most the picture's.
        box: the patch's centre lies in it, as far as the picture's edges allow; None is the whole picture.
        size: the picture's width and height.
    """
    corner = []
    for axis in (0, 1):
        low, high = (0.0, float(size[axis])) if box is None else (float(box[axis]), float(box[axis + 2]))
        centre = rng.uniform(low, max(high, low))
        corner.append(int(np.clip(round(centre - patch_size / 2), 0, size[axis] - patch_size)))
    offset = np.arange(patch_size)
    return np.tile(corner[0] + offset, patch_size), np.repeat(corner[1] + offset, patch_size)


def frame_chances(eye_openness: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """How likely each frame is drawn: most draws are even, some go to eyes as rarely open as these.

    Somebody who blinks once in ten seconds closes their eyes in one frame of a hundred, too few to learn from.

    Args:
        eye_openness: of each frame, 0 to 1.

    Returns:
        Chances that sum to 1.
    """
    level = np.minimum((eye_openness * EYE_LEVELS).astype(int), EYE_LEVELS - 1)
    frames = np.bincount(level, minlength=EYE_LEVELS)
    by_level = 1.0 / (frames[level] * (frames > 0).sum())
    return (1.0 - EYE_FRACTION) / len(level) + EYE_FRACTION * by_level
