"""Pictures at infinity in front of the clip's camera: the replayed frame's torso and background, and the plate.

They are looked up by direction in the clip camera's image plane, so any size, field of view, aspect or crop works,
and a camera that walks around the head does not drag the torso along.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.driving.sequence import ClipCamera, DrivingSequence
from ntalker_ns.media.pixels import from_uint8


def columns_of(
    clip: ClipCamera, camera: Cameras, device: torch.device
) -> tuple[Float[Tensor, "width"], Float[Tensor, "height"]]:
    """A camera's columns and rows in the clip camera's picture, for points at infinity.

    Args:
        clip: the clip's camera.
        camera: one flat camera, on the host; its intrinsics are used, its pose is not.
        device: of the result.

    Returns:
        x and y, 0 to 1 from the left and upper edge of the clip's picture; beyond them outside of it.
    """
    x, y = (
        (torch.arange(int(count[0]), device=device) + 0.5 - float(middle[0])) / float(focal[0])
        for count, middle, focal in ((camera.width, camera.cx, camera.fx), (camera.height, camera.cy, camera.fy))
    )
    return (x * clip.fl_x + clip.cx) / clip.width, (y * clip.fl_y + clip.cy) / clip.height


def places_of(clip: ClipCamera, camera: Cameras, device: torch.device) -> Float[Tensor, "height width 2"]:
    """A camera's pixels as positions in the clip camera's picture, see `columns_of`."""
    return torch.stack(torch.meshgrid(*columns_of(clip, camera, device), indexing="xy"), dim=-1)


def look_up(
    picture: Float[Tensor, "channels h w"], places: Float[Tensor, "*shape 2"]
) -> Float[Tensor, "*shape channels"]:
    """A picture's values at places in [0, 1], bilinear; beyond its edges those of the border."""
    sampled = torch.nn.functional.grid_sample(
        picture[None], places.reshape(1, 1, -1, 2) * 2.0 - 1.0, padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T.reshape(*places.shape[:-1], len(picture))


class ImagePlane:
    """The clip's headless frames and plate in the image plane of its camera."""

    def __init__(self, sequence: DrivingSequence) -> None:
        """
        Args:
            sequence: pictures and intrinsics.
        """
        self.sequence = sequence
        self._last: dict[str, tuple[Any, Tensor]] = {}
        self._covering: UInt8[np.ndarray, "h w 3"] | None = None

    def behind(self, frame: int, camera: Cameras, device: torch.device) -> Float[Tensor, "height width 3"]:
        """The frame's true torso and background under the head.

        Args:
            frame: of the driving sequence.
            camera: one flat camera, on the host; its intrinsics are used, its pose is not.
            device: of the result.
        """
        replayed = int(self.sequence.track.replay[frame])
        return self._seen("headless_frame", replayed, lambda: self.sequence.headless_frame(frame), camera, device)

    def plate(self, camera: Cameras, device: torch.device) -> Float[Tensor, "height width 3"]:
        """The background without the person, for a camera as above."""
        return self._seen("plate", None, self.sequence.plate, camera, device)

    def cover(
        self, image: UInt8[np.ndarray, "h w 3"], camera: Cameras, device: torch.device
    ) -> Float[Tensor, "height width 3"]:
        """A picture in place of the plate, scaled and centred to cover it.

        Args:
            image: RGB.
            camera: as above.
            device: as above.
        """
        if image is not self._covering:
            self._covering = image
            self._last.pop("image", None)
        size = (self.sequence.camera.width, self.sequence.camera.height)
        return self._seen("image", None, lambda: covering(image, size), camera, device)

    def _seen(
        self,
        kind: str,
        which: Any,
        read: Callable[[], UInt8[np.ndarray, "h w 3"]],
        camera: Cameras,
        device: torch.device,
    ) -> Float[Tensor, "height width 3"]:
        """A picture of the clip's size as the camera sees it, area-filtered where minified; caches the last of each
        kind."""
        scale = round(min(float(camera.fx[0]) / self.sequence.camera.fl_x, 1.0), 4)
        key = (which, scale, device)
        if kind not in self._last or self._last[kind][0] != key:
            image = read()
            if scale < 1.0:
                size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            planes = torch.from_numpy(from_uint8(image)).permute(2, 0, 1).contiguous()
            self._last[kind] = (key, planes.to(device))
        return look_up(self._last[kind][1], places_of(self.sequence.camera, camera, device))


def covering(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """A picture scaled and cut to a width and height, its middle kept."""
    width, height = size
    scale = max(width / image.shape[1], height / image.shape[0])
    inner = (max(round(image.shape[1] * scale), width), max(round(image.shape[0] * scale), height))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    scaled = np.asarray(cv2.resize(image, inner, interpolation=method), np.uint8)
    left, top = (inner[0] - width) // 2, (inner[1] - height) // 2
    return scaled[top : top + height, left : left + width]
