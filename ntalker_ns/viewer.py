"""Our elements of nerfstudio's viewer: background, eyes, and the first view."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerDropdown, ViewerSlider, ViewerText
from torch import nn
from viser import ClientHandle

from ntalker_ns.errors import NTalkerError
from ntalker_ns.rendering.background import HELP

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.viewer.viewer import Viewer
    from torch import Tensor

VIEWER_SCALE = 10.0
"""Lengths in the viewer's scene over lengths in the world (nerfstudio's VISER_NERFSTUDIO_SCALE_RATIO)."""


OTHER = "other"
BACKGROUNDS = ("plate", "white", "black", "lime", "transparent", OTHER)
EYES = ("replay", "blink", "fixed")


class PortraitControls(nn.Module):
    """Elements that nerfstudio's viewer finds as attributes of a module; without parameters.

    The viewer shows a transparent background as black; the output `opacity` shows where it is.
    """

    def __init__(self, background: str, set_background: Callable[[str], None], set_eyes: Callable[[str], None]) -> None:
        """
        Args:
            background: first choice.
            set_background: called with a choice of background.
            set_eyes: called with `replay`, `blink` or an openness as text.
        """
        super().__init__()
        listed = background in BACKGROUNDS
        self._set_background, self._set_eyes = set_background, set_eyes
        self.background = ViewerDropdown(
            "Background", background if listed else OTHER, list(BACKGROUNDS), cb_hook=lambda _: self.show_background()
        )
        self.other_background = ViewerText(
            "Other background",
            "" if listed else background,
            cb_hook=lambda _: self.show_background(),
            hint=f"With 'other' above: {HELP}.",
        )
        self.eyes = ViewerDropdown("Eyes", "replay", list(EYES), cb_hook=lambda _: self.show_eyes())
        self.openness = ViewerSlider(
            "Eye openness", 1.0, 0.0, 1.0, 0.05, cb_hook=lambda _: self.show_eyes(), hint="With 'fixed' above."
        )

    def show_background(self) -> None:
        """Applies the chosen background; prints an error if it is invalid."""
        chosen = self.other_background.value if self.background.value == OTHER else self.background.value
        if not chosen:
            return
        try:
            self._set_background(chosen)
        except NTalkerError as error:
            CONSOLE.print(f"[yellow]{error}[/yellow]")

    def show_eyes(self) -> None:
        """Applies the chosen eyes."""
        self._set_eyes(str(self.openness.value) if self.eyes.value == "fixed" else self.eyes.value)


class ShownHead:
    """A model as the viewer renders it: with what the panel shows, which nothing else may see."""

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: a `TalkerModel`.
        """
        self._model = model

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(self._model, name)

    def get_outputs_for_camera(self, camera: "Cameras", obb_box: Any = None) -> "dict[str, Tensor]":
        """See `TalkerModel.get_outputs_for_camera`."""
        return self._model.get_outputs_for_camera(camera, obb_box=obb_box, display=self._model.panel())


class StartInFront(ViewerControl):
    """Starts every browser in front of the face; nerfstudio starts inside the head, behind the training cameras.

    Only the viewer gets the model with what its panel shows.

    The head is fixed in the world, so the training cameras surround the viewer's own: none is drawn. nerfstudio's
    viewer finds this as an attribute of the pipeline.
    """

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

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        # `ns-viewer` ignores the saved viewer configuration (`method_configs`).
        viewer.config = replace(viewer.config, max_num_display_images=0)
        viewer.get_model = lambda: ShownHead(viewer.pipeline.model)  # type: ignore[method-assign, return-value]
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
