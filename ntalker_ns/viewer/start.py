"""What our pipeline adds to nerfstudio's viewer: the first view, the panel, and the head that both show."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import ClientHandle

from ntalker_ns.driving.controls import rest_frame
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.viewer.panel import TalkingHeadPanel
from ntalker_ns.viewer.shown_head import ShownHead

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

VIEWER_SCALE = 10.0
"""Lengths in the viewer's scene over lengths in the world (nerfstudio's VISER_NERFSTUDIO_SCALE_RATIO)."""


class StartInFront:
    """Starts every browser in front of the face; nerfstudio starts inside the head, behind the training cameras."""

    def __init__(self, camera_to_world: Float[np.ndarray, "3 4"], fov_y: float) -> None:
        """
        Args:
            camera_to_world: OpenGL pose of the view; the viewer orbits the point of its optical axis nearest to the
                head's centre.
            fov_y: vertical field of view in radians.
        """
        position, backward = camera_to_world[:, 3], camera_to_world[:, 2]
        self.position = VIEWER_SCALE * position
        self.look_at = VIEWER_SCALE * (position - float(position @ backward) * backward)
        self.fov_y = fov_y

    @classmethod
    def of_clip(cls, clip: DrivingSequence) -> "StartInFront":
        """The clip's camera at the frame whose head pose is nearest to the mean."""
        pose = clip.track.camera_to_worlds[rest_frame(clip)]
        return cls(pose, vertical_fov(clip.camera.height, clip.camera.fl_y))

    def place(self, client: ClientHandle) -> None:
        """Moves one browser's camera.

        Args:
            client: the browser.
        """
        with client.atomic():
            client.camera.up_direction = (0.0, 0.0, 1.0)
            client.camera.position = self.position
            client.camera.look_at = self.look_at
            client.camera.fov = self.fov_y


class TalkingHeadControl(ViewerControl):
    """Sets the viewer up. nerfstudio's viewer finds this as an attribute of the pipeline.

    Only the viewer gets the model with what its panel shows. The head is fixed in the world, so the training cameras
    surround the viewer's own: none is drawn.
    """

    def __init__(self, clip: Callable[[], DrivingSequence], sounds: Path | None) -> None:
        """
        Args:
            clip: gives the head's own driving sequence.
            sounds: a folder of sound files to choose from, beside those of the data set.
        """
        self._clip, self.sounds = clip, sounds

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        clip = self._clip()
        # `ns-viewer` ignores the saved viewer configuration (`method_configs`).
        viewer.config = replace(viewer.config, max_num_display_images=0)
        head = ShownHead(viewer.pipeline.model, viewer.train_lock)
        viewer.get_model = lambda: head  # type: ignore[method-assign, return-value]
        viewer.viser_server.on_client_connect(StartInFront.of_clip(clip).place)
        TalkingHeadPanel(viewer, head, clip, self.sounds)


def vertical_fov(height: float, focal_length: float) -> float:
    """Field of view in radians of a picture `height` px high at a focal length in px."""
    return 2.0 * math.atan(0.5 * height / focal_length)
