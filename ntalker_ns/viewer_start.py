"""Where the viewer's camera stands when a browser connects."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import ClientHandle

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

VIEWER_SCALE = 10.0
"""Lengths in the viewer's scene over lengths in the world (nerfstudio's VISER_NERFSTUDIO_SCALE_RATIO)."""


class StartInFront(ViewerControl):
    """Puts every browser that connects in front of the face; stock puts it inside the head, behind training cameras.

    The head stands still in its world, so that those crowd around the viewer's own camera: none is drawn. nerfstudio's
    viewer finds it as an attribute of the pipeline.
    """

    def __init__(self, camera_to_world: Float[np.ndarray, "3 4"], fov_y: float) -> None:
        """Remembers a view.

        Args:
            camera_to_world: OpenGL matrix of the view; the viewer's camera then turns about the point of its optical
                axis that is nearest to the head's centre.
            fov_y: vertical field of view in radians.
        """
        position, backward = camera_to_world[:, 3], camera_to_world[:, 2]
        self.position = VIEWER_SCALE * position
        self.look_at = VIEWER_SCALE * (position - float(position @ backward) * backward)
        self.fov_y = fov_y

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        # `ns-viewer` makes a configuration of its own, in which ours (`method_configs`) does not count.
        viewer.config = replace(viewer.config, max_num_display_images=0)
        viewer.viser_server.on_client_connect(self.place)

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


def vertical_fov(height: float, focal_length: float) -> float:
    """Field of view in radians of a picture `height` px high at a focal length in px."""
    return 2.0 * math.atan(0.5 * height / focal_length)
