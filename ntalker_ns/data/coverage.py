"""How much of each pixel the head covers: labels say whether, and so mix hair with the background behind it.

Bayesian matting (Chuang, Curless, Salesin and Szeliski 2001, section 3) with a known background. A pixel of colour C at
the head's outline is a F + (1 - a) B: B is the headless frame's colour there, F that of the head just inside, of a
normal distribution fitted to the head's pixels nearby. Of the likelihood over coverages a, times a prior, the mean is
taken. The prior follows the label's outline, and most pixels are wholly head or wholly not.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from ntalker_ns.data.head_removal import HEAD, TORSO, dilate

BAND = 0.02
"""Distance from the outline within which coverage is estimated, over the picture's width; elsewhere it is the label's.
So far headless frames have another colour than the frame."""

INSIDE = 0.004
"""Distance from the outline from which on a pixel within counts as head alone, over the same."""

NEARBY = 0.015
"""Standard deviation of the window of such pixels, over the same."""

SOFT = 0.008
"""Distance from the outline at which the prior's mean is 0 or 1, over the same."""

SPREAD = 0.25
"""Standard deviation of the prior."""

WHOLE = 5.0
"""Log odds of a pixel that is wholly head, or wholly not, over each of the other coverages."""

NOISE = 4.0
"""Standard deviation of a frame's colours, of the background's, and the least of the head's, grey levels of 255."""

OUTLIER = 10.0
"""By how much less likely than exactly explained a colour may be, as a logarithm: what no coverage explains, such as a
background that was never seen, leaves the prior."""

COVERAGES = np.linspace(0.0, 1.0, 9, dtype=np.float32)

HALF = 2
"""The head's colours nearby are fitted at a resolution this much smaller: they are smooth."""

MOMENTS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Second moments of three channels."""


def head_coverage(
    image: UInt8[np.ndarray, "h w 3"], headless: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Coverage of a frame's pixels by the head.

    Args:
        image: the frame.
        headless: the frame without its head.
        labels: of the frame.

    Returns:
        In [0, 1]. Next to the torso, whose colour behind the head is a guess, it is the label's: 0 or 1.
    """
    head, width = labels >= HEAD, image.shape[1]
    coverage = head.astype(np.float32)
    inwards = _distance_inwards(head)
    band = (np.abs(inwards) <= BAND * width) & ~dilate(labels == TORSO, round(BAND * width))
    rows, columns = np.nonzero(band)
    total, mean, covariance = _colours_nearby(image, inwards > INSIDE * width, rows, columns)
    known = total > 1e-4
    rows, columns = rows[known], columns[known]
    if len(rows):
        prior = np.clip(0.5 + inwards[rows, columns] / (2.0 * SOFT * width), 0.0, 1.0)
        seen, behind = (picture[rows, columns].astype(np.float32) for picture in (image, headless))
        coverage[rows, columns] = estimate(seen, behind, mean[known], covariance[known], prior)
    return coverage


def estimate(
    seen: Float32[np.ndarray, "n 3"],
    behind: Float32[np.ndarray, "n 3"],
    mean: Float32[np.ndarray, "n 3"],
    covariance: Float32[np.ndarray, "n 3 3"],
    prior: Float[np.ndarray, "n"],
) -> Float32[np.ndarray, "n"]:
    """Mean coverage of pixels, given their colours in grey levels of 255.

    Args:
        seen: their colours.
        behind: the background's.
        mean: the head's.
        covariance: of the head's.
        prior: mean of the prior of each.
    """
    # In the axes of the head's colours all covariances are diagonal.
    variances, axes = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 0.0) + NOISE**2
    seen, behind, mean = ((colour[:, None] @ axes)[:, 0] for colour in (seen, behind, mean))
    odds = np.empty((len(seen), len(COVERAGES)), np.float32)
    for k, a in enumerate(COVERAGES):
        spread = a**2 * variances + (1.0 + (1.0 - a) ** 2) * NOISE**2
        wrong = np.square(seen - a * mean - (1.0 - a) * behind)
        odds[:, k] = -0.5 * (wrong / spread + np.log(spread / (2.0 * NOISE**2))).sum(axis=1)
    odds = np.logaddexp(odds, -OUTLIER) - 0.5 * np.square((COVERAGES - prior[:, None]) / SPREAD)
    odds[:, [0, -1]] += WHOLE
    chances = np.exp(odds - odds.max(axis=1, keepdims=True))
    return ((chances @ COVERAGES) / chances.sum(axis=1)).astype(np.float32)


def _distance_inwards(head: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Distance in px of pixel centres from the head's outline, positive inside."""
    within, without = (
        cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3) for mask in (head, ~head)
    )
    return np.where(head, within - 0.5, 0.5 - without).astype(np.float32)


def _colours_nearby(
    image: UInt8[np.ndarray, "h w 3"],
    sure: Bool[np.ndarray, "h w"],
    rows: Int[np.ndarray, "n"],
    columns: Int[np.ndarray, "n"],
) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3 3"]]:
    """Share of sure pixels around some pixels, and mean and covariance of their colours."""
    size = tuple(max(side // HALF, 1) for side in image.shape[1::-1])
    colour, weight = (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        for picture in (image, sure.astype(np.float32))
    )
    products = [colour[..., i] * colour[..., j] for i, j in MOMENTS]
    sums = [weight * each for each in (np.ones_like(weight), *cv2.split(colour), *products)]
    sigma = NEARBY * size[0]
    at = np.minimum(rows // HALF, size[1] - 1), np.minimum(columns // HALF, size[0] - 1)
    share, *moments = (cv2.GaussianBlur(each, (0, 0), sigma)[at] for each in sums)
    moments = np.stack(moments, axis=1) / np.maximum(share, 1e-6)[:, None]
    mean = moments[:, :3]
    covariance = np.empty((len(rows), 3, 3), np.float32)
    for k, (i, j) in enumerate(MOMENTS):
        covariance[:, i, j] = covariance[:, j, i] = moments[:, 3 + k] - mean[:, i] * mean[:, j]
    return share, mean, covariance
