"""What lies under the head: the frame's true torso and background, with the head taken out.

The head is composited over this picture in training and in scoring. Were any head pixel left in it, an empty field
would score well; so the head and a band around it are replaced, by the plate where background is nearest and by a
smooth continuation of neck and clothes where those are nearest. The band is wide over background, where thin hair may
be, and narrow over neck and clothes: what shows of a neck is often no more than a few pixels high.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

BACKGROUND, TORSO, HEAD, LIPS, MOUTH_INTERIOR = range(5)
"""Labels of a mask picture; HEAD and above all belong to the head."""

DILATION_FRACTION = 0.02
"""Width of the band around the head mask that counts as head, over the picture's width: hair and blurred edges."""

TORSO_SHARE = 0.4
"""Share of that width within which torso counts as head: the jaw's blurred edge."""

COARSE = 4
"""The inside of the head mask is filled at a resolution this much smaller: it is smooth."""

BLUR = 1.5
"""Standard deviation, in coarse px, of the blur over the continued torso: no streaks."""


def dilation_of(width: int) -> int:
    """The dilation in px for a picture of this width, at least one."""
    return max(1, round(DILATION_FRACTION * width))


def dilate(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    """Everything within `radius` px of the mask."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    return distance <= radius


def taken_out(labels: UInt8[np.ndarray, "h w"], dilation: int) -> Bool[np.ndarray, "h w"]:
    """The head and the band around it.

    Args:
        labels: `BACKGROUND` to `MOUTH_INTERIOR` for each pixel.
        dilation: width of the band in px over background.
    """
    head = labels >= HEAD
    return dilate(head, round(TORSO_SHARE * dilation)) | dilate(head, dilation) & (labels != TORSO)


def remove_head(
    image: UInt8[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    plate: UInt8[np.ndarray, "h w 3"],
    dilation: int,
    torso: UInt8[np.ndarray, "h w 4"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Takes the head out of a frame.

    Args:
        image: the frame.
        labels: `BACKGROUND` to `MOUTH_INTERIOR` for each pixel.
        plate: the background without the person.
        dilation: px around the head mask that count as head (see `taken_out`).
        torso: the torso alone, RGBA, where the data set knows what is behind the head; otherwise it is continued.

    Returns:
        The frame, unchanged, where nothing is taken out; elsewhere the plate and the torso behind the head.
    """
    inside = taken_out(labels, dilation)
    if torso is not None:
        alpha = torso[..., 3:].astype(np.float32) / 255
        behind = alpha * torso[..., :3] + (1 - alpha) * plate
        return np.where(inside[..., None], np.rint(behind), image).astype(np.uint8)
    return _with_torso_continued(image, labels, plate, inside)


def _with_torso_continued(
    image: UInt8[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    plate: UInt8[np.ndarray, "h w 3"],
    inside: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    torso = (labels == TORSO) & ~inside
    background = (labels == BACKGROUND) & ~inside
    result = image.copy()
    cv2.copyTo(plate, inside.astype(np.uint8), result)
    if inside.any() and torso.any():
        _continue_torso(result, inside, torso, background)
    return result


def _continue_torso(
    picture: UInt8[np.ndarray, "h w 3"],
    inside: Bool[np.ndarray, "h w"],
    torso: Bool[np.ndarray, "h w"],
    background: Bool[np.ndarray, "h w"],
) -> None:
    """Paints the part of `inside` that is nearer to torso than to background with the nearest torso colours."""
    height, width = inside.shape
    size = (-(-width // COARSE), -(-height // COARSE))
    coarse_torso, coarse_background = (
        cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) >= 250
        for mask in (torso, background)
    )
    if not coarse_torso.any():
        return
    to_torso, nearest = cv2.distanceTransformWithLabels(
        (~coarse_torso).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    share = np.clip(0.5 + (_distance(coarse_background) - to_torso) / 4, 0, 1)
    # Only a source pixel's own label is known at its place, so colours are gathered by label.
    nearest = np.asarray(nearest, np.int32)
    palette = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    palette[nearest[coarse_torso]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[coarse_torso]
    colour = cv2.GaussianBlur(palette[nearest], (0, 0), BLUR)
    top, left = (int(np.argmax(inside.any(axis=axis))) for axis in (1, 0))
    bottom, right = (n - int(np.argmax(inside.any(axis=axis)[::-1])) for n, axis in ((height, 1), (width, 0)))
    box = (slice(top, bottom), slice(left, right))
    alpha = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)[box] * inside[box]
    fill = cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR)[box]
    picture[box] = cv2.blendLinear(fill, picture[box], alpha, 1 - alpha)


def _distance(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Distance in px to the mask; far everywhere where it is empty."""
    if not mask.any():
        return np.full(mask.shape, 1e6, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
