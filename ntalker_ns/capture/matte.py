"""The person's matte: which part of each frame is the person rather than the background."""

from types import TracebackType
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ntalker_ns.console import quiet_native_logs
from ntalker_ns.media.pixels import to_uint8

RESOLUTION = 256
"""Side of stored mattes in px: the network's own."""


class PersonMatte:
    """mediapipe's selfie segmentation, one frame at a time."""

    def __init__(self) -> None:
        from mediapipe.python.solutions import selfie_segmentation

        with quiet_native_logs():
            self._net = selfie_segmentation.SelfieSegmentation(model_selection=0)

    def __call__(self, image: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "256 256"]:
        """Confidence that each pixel shows the person.

        Args:
            image: square RGB frame.

        Returns:
            0 (background) to 255 (person), at 256 px.
        """
        found: Any = self._net.process(image)
        small = cv2.resize(found.segmentation_mask, (RESOLUTION, RESOLUTION), interpolation=cv2.INTER_AREA)
        return to_uint8(small)

    def close(self) -> None:
        """Frees the model."""
        self._net.close()

    def __enter__(self) -> "PersonMatte":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def smooth_in_time(mattes: UInt8[np.ndarray, "n 256 256"]) -> UInt8[np.ndarray, "n 256 256"]:
    """The median of each frame with its two neighbours: removes single-frame flicker without lag."""
    if len(mattes) < 3:
        return mattes
    before, now, after = mattes[:-2], mattes[1:-1], mattes[2:]
    median = np.maximum(np.minimum(before, now), np.minimum(np.maximum(before, now), after))
    return np.concatenate([mattes[:1], median, mattes[-1:]])
