"""Where a head is in depth, by the tracked face: what the pictures of a head that hardly turns leave open.

A surface that slides along its rays explains pictures from one side equally well, until somebody looks from another.
The tracker's face says where the skin is; hair and ears are around it, on a skull as round as skulls are.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

BEFORE, BEHIND, BEHIND_LIPS = 0.3, 0.35, 1.0
"""How far from the face's surface anything can be, over the distance between the eyes: glasses and fringes before it,
the inside of the mouth behind the lips."""
MOUTH = 0.6
"""How far around the middle of the lips their depth behind the surface holds, likewise."""
BEHIND_EARS = 0.6
"""How far behind the ears the head's outline can be, likewise."""
SKULL = 1.1
"""How far above the face the skull reaches, likewise: there it is as deep as the ears."""

LEFT_EAR, RIGHT_EAR = 454, 234
LEFT_EYE, RIGHT_EYE = (263, 362), (33, 133)
LIPS = (61, 291, 0, 17)
SURFACE_POINTS = 468
"""Points of mediapipe's face mesh that lie on the skin; the irises' follow."""


@dataclass(frozen=True)
class FaceShell:
    """Depths of a head that faces -y, for a lattice of columns along y: the shell that may hold it, and its surface."""

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

        skin = face[:SURFACE_POINTS].astype(np.float64)
        left, right = (face[list(corners)].mean(axis=0) for corners in (LEFT_EYE, RIGHT_EYE))
        unit = float(np.linalg.norm(left - right))
        ears = float(face[[LEFT_EAR, RIGHT_EAR], 1].mean())
        axis = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
        columns = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
        distance, nearest = KDTree(skin[:, [0, 2]]).query(columns)
        rim = skin[nearest, 1]
        roundness = np.sqrt(1.0 - np.minimum(distance / (SKULL * unit), 1.0) ** 2)
        skull = ears - (ears - rim) * roundness
        seen = LinearNDInterpolator(skin[:, [0, 2]], skin[:, 1])(columns)
        beside = np.isnan(seen)
        to_mouth = np.linalg.norm(columns - face[list(LIPS)].mean(axis=0)[[0, 2]], axis=-1) / unit
        behind = unit * np.where(to_mouth < MOUTH, BEHIND_LIPS, BEHIND)
        return cls(
            front=np.where(beside, rim, seen) - BEFORE * unit,
            surface=np.where(beside, skull, seen),
            back=np.where(beside, np.maximum(ears, rim) + BEHIND_EARS * unit, seen + behind),
            unit=unit,
        )

    def cells(self, deeper: float = 0.0) -> Bool[np.ndarray, "columns columns columns"]:
        """Which cells of the lattice of [-1, 1]^3, by x, y and z, touch the shell.

        Args:
            deeper: how much further back the shell reaches, world units.
        """
        half = 1.0 / len(self.surface)
        y = (np.arange(len(self.surface)) * 2.0 + 1.0)[:, None] * half - 1.0
        return (y > self.front[:, None] - half) & (y < self.back[:, None] + deeper + half)
