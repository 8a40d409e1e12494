"""What frames show of the head: their pictures, and for each pixel the point of the head that is seen there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

LIPS, INSIDE = 1, 2
"""Values of `FrameView.mouth`."""


@dataclass(frozen=True, eq=False)
class FrameView:
    """A frame of the unedited head."""

    picture: Float32[np.ndarray, "h w 3"]
    """RGB, 0 to 1."""
    canonical: Float32[np.ndarray, "h w 3"]
    """The point that each pixel shows, in canonical space; meaningless where the head's opacity is 0."""
    head: Float32[np.ndarray, "h w 1"]
    """Opacity of the head, 0 to 1."""
    torso: Float32[np.ndarray, "h w 1"]
    """Opacity of the torso, 0 to 1."""
    mouth: UInt8[np.ndarray, "h w 1"]
    """`LIPS` on the lips, `INSIDE` between them, 0 elsewhere."""
    beside: Float32[np.ndarray, "h w 3"] | None = None
    """Of an edit that may change the outline: the canonical point that a pixel would show if the head reached there."""
    behind: Float32[np.ndarray, "h w 3"] | None = None
    """Torso and background without the head, RGB, 0 to 1; None: unknown."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.picture.shape[1], self.picture.shape[0]


RenderView = Callable[[int, int], FrameView]
"""Renders a frame of the driving sequence from the head as it is now: (frame, longest side in px) -> view."""


def view_of(picture: Float32[np.ndarray, "h w 3"], outputs: dict[str, Tensor], surface: dict[str, Tensor]) -> FrameView:
    """A view from a model's outputs.

    Args:
        picture: of the unedited head.
        outputs: of `get_outputs_for_camera`.
        surface: of `TalkerModel.surface`, and of `TalkerModel.beside` if outlines may change.
    """
    head, torso = (outputs[name].float().cpu().numpy() for name in ("head_opacity", "torso_opacity"))
    mouth = surface["mouth"].cpu().numpy().astype(np.uint8)
    beside = surface["beside"].cpu().numpy() if "beside" in surface else None
    canonical = surface["canonical"].float().cpu().numpy()
    return FrameView(picture, canonical, head, torso, mouth, beside, behind_head(outputs))


def behind_head(outputs: dict[str, Tensor]) -> Float32[np.ndarray, "h w 3"]:
    """Torso and background of a picture without the head, RGB, 0 to 1.

    Args:
        outputs: of `get_outputs_for_camera`.
    """
    around = outputs["torso"] + (1.0 - outputs["torso_opacity"]) * outputs["background"]
    return around.float().clamp(0.0, 1.0).cpu().numpy()
