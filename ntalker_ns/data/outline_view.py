"""A frame that shows the head with another outline than it has."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32


@dataclass(frozen=True, eq=False)
class OutlineView:
    """A frame in which the head is to have another outline."""

    frame: int
    """In the driving sequence."""
    image: Float32[np.ndarray, "h w 3"]
    """The edited frame, RGB, 0 to 1."""
    head: Bool[np.ndarray, "h w"]
    """Where the head is to be."""
    missing: Bool[np.ndarray, "h w"]
    """Where it is to be and is not yet."""
    camera_to_world: Float[np.ndarray, "3 4"]
    """OpenGL."""
    intrinsics: tuple[float, float, float, float]
    """fl_x, fl_y, cx, cy in px."""
