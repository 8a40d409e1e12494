"""PSNR of the regions that matter: the whole picture, the head, the face and the lips."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.data.head_removal import HEAD, LIPS

REGIONS = ("full", "head", "face", "lips")
"""The whole picture; labels head and above; the face's oval; lips and what is between them."""

Masks = dict[str, Bool[np.ndarray, "h w"]]


@dataclass(frozen=True)
class RegionPsnr:
    """PSNR over a set of frames, dB.

    Attributes:
        mean: the mean of the frames' PSNRs; what tables of this project report.
        pooled: the PSNR of the squared error averaged over all pixels of all frames; never above `mean` where the
            region's size is steady, and lower where a few frames are bad.
        frames: how many frames have the region.
    """

    mean: float
    pooled: float
    frames: int


def region_masks(labels: UInt8[np.ndarray, "h w"], face: Bool[np.ndarray, "h w"]) -> Masks:
    """The regions of a frame, by the true labels.

    Args:
        labels: 0 background, 1 torso, 2 head, 3 lips, 4 mouth interior.
        face: inside the face's outline.
    """
    return {"full": np.ones(labels.shape, bool), "head": labels >= HEAD, "face": face, "lips": labels >= LIPS}


def region_errors(
    prediction: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"], masks: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, int]]:
    """Squared errors of a frame.

    Args:
        prediction: RGB in [0, 1]; clipped to it.
        truth: RGB in [0, 1].
        masks: by region.

    Returns:
        Per region, the sum over its pixels of the channels' mean squared error, and the number of its pixels.
    """
    squared = np.square(np.clip(prediction, 0.0, 1.0).astype(np.float64) - truth).mean(axis=-1)
    return {name: (float(squared[mask].sum()), int(mask.sum())) for name, mask in masks.items()}


def region_psnr(frames: Iterable[Mapping[str, tuple[float, int]]]) -> dict[str, RegionPsnr]:
    """PSNR of every region over a set of frames.

    Args:
        frames: `region_errors` of each frame; a frame where a region is empty does not count for it.

    Returns:
        By region; regions that are empty in all frames are left out.
    """
    rows = list(frames)
    result = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        seen = [row[name] for row in rows if name in row and row[name][1] > 0]
        if not seen:
            continue
        mean = float(np.mean([psnr(total / count) for total, count in seen]))
        pooled = psnr(sum(total for total, _ in seen) / sum(count for _, count in seen))
        result[name] = RegionPsnr(mean, pooled, len(seen))
    return result


def psnr(mean_square: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in [0, 1]; at most 100: means stay finite."""
    return float(-10.0 * np.log10(max(mean_square, 1e-10)))
