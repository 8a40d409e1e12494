"""The shell of space that can hold a head, from its tracked face.

Pictures of a head that hardly turns leave its depth open: a surface that slides along the rays explains them equally
well, but not views from the side. The tracked face gives the skin; hair and ears lie around it on a round skull.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.face import mesh_indices

BEFORE, BEHIND, BEHIND_LIPS = 0.3, 0.35, 1.0
"""Reach of the shell in front of the skin (glasses, fringes), behind it, and behind the lips (inside of the mouth). All
lengths of this module are in distances between the eyes."""
MOUTH = 0.6
"""Radius around the middle of the lips in which `BEHIND_LIPS` holds."""
BEHIND_EARS = 0.6
"""Reach behind the ears, beside the face."""
SKULL = 1.1
"""Reach of the skull beyond the face's rim: there it is as deep as the ears."""


@dataclass(frozen=True)
class FaceShell:
    """Depths of a head that faces -y, for a lattice of columns along y: the shell that can hold it, and its surface."""

    front: Float[np.ndarray, "columns columns"]
    """World y of the shell's front by place along x, then z; places are the centres of cells of [-1, 1]."""
    surface: Float[np.ndarray, "columns columns"]
    """World y of the skin; beside the face, of a round skull."""
    back: Float[np.ndarray, "columns columns"]
    unit: float
    """Distance between the eyes, world units."""

    @classmethod
    def around(cls, face: Float[np.ndarray, "points 3"], resolution: int) -> "FaceShell":
        """The shell around a face.

        Args:
            face: world points of mediapipe's face mesh.
            resolution: columns along x and along z.
        """
        from scipy.interpolate import LinearNDInterpolator
        from scipy.spatial import KDTree

        skin = face[: mesh_indices.SURFACE_POINTS].astype(np.float64)
        keypoints = mesh_indices.MESH.keypoints
        left, right, mouth = (face[list(keypoints[name])].mean(axis=0) for name in ("left_eye", "right_eye", "mouth"))
        unit = float(np.linalg.norm(left - right))
        ears = float(face[[mesh_indices.LEFT_EAR, mesh_indices.RIGHT_EAR], 1].mean())
        axis = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
        columns = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
        distance, nearest = KDTree(skin[:, [0, 2]]).query(columns)
        rim = skin[nearest, 1]
        roundness = np.sqrt(1.0 - np.minimum(distance / (SKULL * unit), 1.0) ** 2)
        skull = ears - (ears - rim) * roundness
        seen = LinearNDInterpolator(skin[:, [0, 2]], skin[:, 1])(columns)
        beside = np.isnan(seen)
        to_mouth = np.linalg.norm(columns - mouth[[0, 2]], axis=-1) / unit
        behind = unit * np.where(to_mouth < MOUTH, BEHIND_LIPS, BEHIND)
        return cls(
            front=np.where(beside, rim, seen) - BEFORE * unit,
            surface=np.where(beside, skull, seen),
            back=np.where(beside, np.maximum(ears, rim) + BEHIND_EARS * unit, seen + behind),
            unit=unit,
        )

    def cells(self, deeper: float = 0.0) -> Bool[np.ndarray, "columns columns columns"]:
        """Whether each cell of the lattice of [-1, 1]^3, by x, y and z, touches the shell.

        Args:
            deeper: world units by which the shell reaches further back.
        """
        half = 1.0 / len(self.surface)
        y = (np.arange(len(self.surface)) * 2.0 + 1.0)[:, None] * half - 1.0
        return (y > self.front[:, None] - half) & (y < self.back[:, None] + deeper + half)
