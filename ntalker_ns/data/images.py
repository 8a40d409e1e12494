"""Pictures, labels, boxes and masks: reading and resizing."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.errors import NTalkerError


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an RGB picture.

    Raises:
        NTalkerError: the file is missing or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        reason = "cannot be decoded as a picture" if path.exists() else "is missing"
        raise NTalkerError(f"{path} {reason}.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def shrink_to(picture: UInt8[np.ndarray, "h w 3"], longest: int) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """Area-filtered to a longest side in px; never enlarged."""
    return cv2.resize(picture, fitted_size((picture.shape[1], picture.shape[0]), longest), interpolation=cv2.INTER_AREA)


def fitted_size(size: tuple[int, int], longest: int | None, enlarge: bool = False) -> tuple[int, int]:
    """Width and height scaled to a longest side in px, None for the same; enlarged only on request."""
    scale = (longest or max(size)) / max(size)
    scale = scale if enlarge else min(1.0, scale)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scaled_boxes(boxes: Float[np.ndarray, "n 4"], scale: tuple[float, float]) -> Float[np.ndarray, "n 4"]:
    """Boxes (x0, y0, x1, y1) in a picture scaled by (x, y)."""
    return (boxes * np.array([*scale, *scale])).astype(np.float32)


def shrink_labels(labels: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "new_h new_w"]:
    """Labels at another width and height, by majority: a nearest pixel would drop thin lips."""
    if labels.shape[1::-1] == size:
        return labels
    num_labels = int(labels.max()) + 1
    shares = [
        cv2.resize((labels == label).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for label in range(num_labels)
    ]
    return np.argmax(shares, axis=0).astype(np.uint8)


def polygon_mask(points: Float[np.ndarray, "k 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels inside a polygon given in px, edges at pixel corners (x = 0 is the picture's left edge)."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    shift = 4
    corners = np.round((points - 0.5) * (1 << shift)).astype(np.int32)
    cv2.fillPoly(mask, [corners], (1,), shift=shift)
    return mask.astype(bool)
