"""What moves with the head, and what stays: cloth that looks like hair stays where it is when the head turns."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from ntalker_ns.face import mesh_indices

SIDE = 160
"""Of the pictures that are compared, px."""
NOISE = 4.0
"""Grey levels of 255 that pictures differ by where nothing moves."""
WEIGHT = 26.0
"""Largest log odds of head that motion gives."""
DOUBT = 5.0
"""Log odds that motion gives where nothing is known: hair that rests on shoulders hardly moves."""


class MotionCue:
    """Compares frames with the clip's median picture, and with its median picture in the head's coordinates.

    Args:
        images: some frames, RGB.
        points: their landmarks, px.
    """

    def __init__(self, images: Sequence[UInt8[np.ndarray, "s s 3"]], points: Sequence[Float[np.ndarray, "478 2"]]):
        scale = SIDE / images[0].shape[0]
        rigid = np.stack([each[mesh_indices.RIGID] for each in points]) * scale
        self._mean = rigid.mean(axis=0)
        small = [_small(image) for image in images]
        self._still = np.median(small, axis=0).astype(np.float32)
        turned = [
            cv2.warpAffine(image, self._to_mean(each), (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            for image, each in zip(small, rigid, strict=True)
        ]
        self._moving = np.median(turned, axis=0).astype(np.float32)
        odds = [self._odds(image, each) for image, each in zip(small, rigid, strict=True)]
        self._lasting = np.median(odds, axis=0).astype(np.float32)

    def __call__(
        self, image: UInt8[np.ndarray, "s s 3"], points: Float[np.ndarray, "478 2"]
    ) -> Float32[np.ndarray, "s s"]:
        """Log odds of head, at most 0: negative where the frame, and most frames, are more like what stays there than
        like what moves with the head.

        Args:
            image: RGB.
            points: landmarks, px.
        """
        size = image.shape[0]
        odds = self._odds(_small(image), points[mesh_indices.RIGID] * (SIDE / size))
        stays = np.minimum(np.maximum(odds, self._lasting) + DOUBT, 0.0)
        return cv2.resize(stays, (size, size), interpolation=cv2.INTER_LINEAR)

    def _odds(
        self, small: Float32[np.ndarray, "side side 3"], rigid: Float[np.ndarray, "rigid 2"]
    ) -> Float32[np.ndarray, "side side"]:
        matrix = self._to_mean(rigid)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(self._moving, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        stays, moves = (
            cv2.GaussianBlur(np.abs(small - other).mean(axis=-1), (0, 0), SIDE / 64) for other in (self._still, moved)
        )
        return WEIGHT * (stays - moves) / (stays + moves + NOISE)

    def _to_mean(self, points: Float[np.ndarray, "rigid 2"]) -> Float[np.ndarray, "2 3"]:
        """Brings a frame's head to the mean place."""
        matrix, _ = cv2.estimateAffinePartial2D(points, self._mean, method=cv2.LMEDS)
        return matrix


def _small(image: UInt8[np.ndarray, "s s 3"]) -> Float32[np.ndarray, "side side 3"]:
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
