"""The rig of a person: where the parts of the face are in the head, and how they move."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

KEYPOINTS = ("mouth", "chin", "left_eye", "right_eye", "nose")
"""Names of a rig's keypoints; left is the person's left."""


@dataclass(frozen=True, eq=False)
class Rig:
    """Geometry of one person's face in world units; the same for every frame and any audio."""

    keypoints: dict[str, Float[np.ndarray, "3"]]
    """World points of `KEYPOINTS`."""
    lip_points: Float[np.ndarray, "points 2"]
    """Mean x (sideways) and z (up) of the landmarks of lips and jaw."""
    lip_basis: Float[np.ndarray, "lip_dim points 2"]
    """Displacement of those landmarks per unit of each lip shape component."""
    brow_points: Float[np.ndarray, "brow_points 2"]
    """Mean x and z of the landmarks of the brows and of the still parts around them."""
    brow_basis: Float[np.ndarray, "brow_dim brow_points 2"]
    """Displacement of those landmarks per unit of each brow shape component."""
    lids: Float[np.ndarray, "2 columns 4"]
    """Curves of the lids of both eyes, see `ntalker_ns.face.eyelids.lid_curves`."""

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes."""
        return float(np.linalg.norm(self.keypoints["left_eye"] - self.keypoints["right_eye"]))
