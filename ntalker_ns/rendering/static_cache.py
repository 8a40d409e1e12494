"""Rays of a static camera that need not be rendered again.

Neither speech nor brows nor blinks act on most of a head, by construction (`ntalker_ns.field.gates`). While camera and
weights stay the same, rays that pass no gate are rendered once.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

Outputs = dict[str, Tensor]
"""By name, (rays, channels)."""

Render = Callable[[Int[Tensor, "subset"], bool], Outputs]
"""Renders some rays. With True, `live` is among the outputs: which of them may look different in the next frame."""


class StaticCameraCache:
    """Renders frame after frame; from the third one with the same key on, only rays that may have changed.

    These are found in the second frame, so that a moving camera has no overhead.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._live: Tensor | None = None
        self._outputs: Outputs = {}

    def render(self, key: Any, rays: int, device: torch.device, render: Render) -> Outputs:
        """The outputs of all rays.

        Args:
            key: everything that rays which are not live depend on.
            rays: how many there are.
            device: of the rays.
            render: see `Render`.
        """
        if key != self._key:
            self._key, self._live = key, None
            return render(torch.arange(rays, device=device), False)
        if self._live is None:
            self._outputs = render(torch.arange(rays, device=device), True)
            self._live = self._outputs.pop("live").squeeze(-1).nonzero().squeeze(-1)
            return dict(self._outputs)
        fresh = render(self._live, False)
        return {name: kept.index_copy(0, self._live, fresh[name]) for name, kept in self._outputs.items()}


def lens(camera: Cameras) -> tuple[Any, ...]:
    """Everything that a camera's rays depend on, but its pose.

    Args:
        camera: one flat camera.
    """
    names = ("fx", "fy", "cx", "cy", "width", "height", "camera_type", "distortion_params")
    values = (getattr(camera, name) for name in names)
    return tuple(None if value is None else tuple(value.flatten().tolist()) for value in values)
