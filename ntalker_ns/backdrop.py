"""What a camera sees where the head is not: the replayed frame's torso over the plate."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.driving import DrivingSequence


class Backdrop:
    """Torso and plate as a picture at infinity in front of the clip's camera.

    It is looked up by direction in the clip camera's image plane, so any size, field of view, aspect or crop works,
    and a camera that walks around the head does not drag the torso along.
    """

    def __init__(self, sequence: DrivingSequence) -> None:
        """
        Args:
            sequence: gives the pictures and the clip camera's intrinsics.
        """
        self.sequence = sequence
        self._last: tuple[tuple[int, float], Tensor] | None = None

    def _picture(self, frame: int, scale: float) -> Float[Tensor, "1 3 height width"]:
        """The underlay of a frame, filtered for a camera of that many target pixels a clip pixel."""
        key = (int(self.sequence.replay[frame]), round(scale, 4))
        if self._last is None or self._last[0] != key:
            image = self.sequence.underlay(frame)
            if scale < 1.0:
                size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255.0
            self._last = (key, planes)
        return self._last[1]

    def behind(self, frame: int, camera: Cameras) -> Float[Tensor, "height width 3"]:
        """The picture under the head for one camera at one driving frame.

        Args:
            frame: of the driving sequence.
            camera: one flat camera; its intrinsics are used, its pose is not.
        """
        sequence, device = self.sequence, camera.device
        fx, fy = float(camera.fx[0]), float(camera.fy[0])
        picture = self._picture(frame, min(fx / sequence.fl_x, 1.0)).to(device)
        x = (torch.arange(int(camera.width[0]), device=device) + 0.5 - float(camera.cx[0])) / fx
        y = (torch.arange(int(camera.height[0]), device=device) + 0.5 - float(camera.cy[0])) / fy
        # In [-1, 1] over the clip's picture, whose pixel edges are at -1 and 1.
        u = (x * sequence.fl_x + sequence.cx) / sequence.width * 2.0 - 1.0
        v = (y * sequence.fl_y + sequence.cy) / sequence.height * 2.0 - 1.0
        grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)[None]
        sampled = torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        return sampled[0].permute(1, 2, 0)
