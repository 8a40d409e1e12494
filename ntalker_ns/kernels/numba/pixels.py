"""Frames' colours and labels at pixels, and the rays through them, in one pass over the pixels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64
from numba import prange

from ntalker_ns.kernels.numba.common import KERNEL_LOCK, kernel


class PixelBuffers(NamedTuple):
    """Values of pixels, float32 but for the labels."""

    image: Float[np.ndarray, "r 3"]
    """In [0, 1], as the next two."""
    headless: Float[np.ndarray, "r 3"]
    plate: Float[np.ndarray, "r 3"]
    place: Float[np.ndarray, "r 2"]
    """Pixel centres over the picture's width and height."""
    coverage: Float[np.ndarray, "r 1"]
    """How much of the pixel the head covers, see `ntalker_ns.data.coverage`."""
    labels: UInt8[np.ndarray, " r"]


class Rays(NamedTuple):
    """Through pixels, float32."""

    origins: Float[np.ndarray, "r 3"]
    directions: Float[np.ndarray, "r 3"]
    areas: Float[np.ndarray, "r 1"]

    @classmethod
    def of(cls, count: int) -> "Rays":
        """Empty buffers for so many rays."""
        return cls(*(np.empty((count, width), np.float32) for width in (3, 3, 1)))


def gather_pixels(
    pixels: UInt64[np.ndarray, "n hw"],
    plate: UInt8[np.ndarray, "h w 3"],
    frames: Int[np.ndarray, " f"],
    x: Int[np.ndarray, " r"],
    y: Int[np.ndarray, " r"],
    found: PixelBuffers,
) -> None:
    """Gathers the values of pixels.

    Args:
        pixels: of a `FrameStore`.
        plate: of the frames' size.
        frames: of the store.
        x: columns, frame after frame and equally many of each.
        y: rows.
        found: written.
    """
    with KERNEL_LOCK:
        _gather_pixels(pixels, plate, np.asarray(frames, np.int64), x, y, *found)


def cast_rays(
    poses: Float[np.ndarray, "f 3 4"],
    intrinsics: tuple[float, float, float, float],
    x: Int[np.ndarray, " r"],
    y: Int[np.ndarray, " r"],
    found: Rays,
) -> None:
    """Unit directions in the world through pixel centres, their origins, and the areas of the pixels at distance 1.

    Directions are those of nerfstudio's `Cameras.generate_rays`, which takes much longer for a few rays of a camera;
    its areas are finite differences, ours their limit.

    Args:
        poses: of the frames, OpenGL, float32.
        intrinsics: fl_x, fl_y, cx, cy in px of the frames.
        x: columns, frame after frame and equally many of each.
        y: rows.
        found: written.
    """
    with KERNEL_LOCK:
        _cast_rays(poses, *intrinsics, x, y, *found)


@kernel
def _gather_pixels(pixels, plate, frames, x, y, image, headless, plates, place, coverage, labels):
    each = max(len(x) // max(len(frames), 1), 1)
    height, width = plate.shape[:2]
    for i in prange(len(x)):
        # Eight bytes: RGB, RGB of the headless frame, label; then the face mask in one bit and the coverage in seven.
        value = pixels[frames[i // each], y[i] * width + x[i]]
        for channel in range(3):
            image[i, channel] = np.float32((value >> np.uint64(8 * channel)) & np.uint64(255)) / np.float32(255)
            headless[i, channel] = np.float32((value >> np.uint64(8 * channel + 24)) & np.uint64(255)) / np.float32(255)
            plates[i, channel] = np.float32(plate[y[i], x[i], channel]) / np.float32(255)
        labels[i] = np.uint8((value >> np.uint64(48)) & np.uint64(255))
        coverage[i, 0] = np.float32(value >> np.uint64(57)) / np.float32(127)
        place[i, 0], place[i, 1] = (x[i] + 0.5) / width, (y[i] + 0.5) / height


@kernel
def _cast_rays(poses, fl_x, fl_y, cx, cy, x, y, origins, directions, areas):
    each = max(len(x) // max(len(poses), 1), 1)
    for i in prange(len(x)):
        pose = poses[i // each]
        right, up = np.float32((x[i] + 0.5 - cx) / fl_x), np.float32(-(y[i] + 0.5 - cy) / fl_y)
        inverse = np.float32(1) / np.sqrt(right * right + up * up + np.float32(1))
        right, up, back = right * inverse, up * inverse, -inverse
        for axis in range(3):
            origins[i, axis] = pose[axis, 3]
            directions[i, axis] = pose[axis, 0] * right + pose[axis, 1] * up + pose[axis, 2] * back
        sides = np.sqrt((np.float32(1) - right * right) * (np.float32(1) - up * up))
        areas[i, 0] = sides * inverse * inverse / np.float32(fl_x * fl_y)
