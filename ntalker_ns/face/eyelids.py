"""Where the lids of both eyes are when they are open, where they meet, and how far up their skin moves."""

import numpy as np
from jaxtyping import Float

from ntalker_ns.face.shape_basis import PosedLandmarks

COLUMNS = 9
"""Places across an eye at which its lids are described."""

MESH_UPPER = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133),
    (362, 398, 384, 385, 386, 387, 388, 466, 263),
)
"""Upper lids of the right and the left eye in mediapipe's face mesh, from corner to corner."""
MESH_LOWER = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
    (362, 382, 381, 380, 374, 373, 390, 249, 263),
)
MESH_BROW = ((46, 53, 52, 65, 55), (285, 295, 282, 283, 276))
"""Lower edges of the brows, from the person's right to left."""
MESH = tuple(zip(MESH_UPPER, MESH_LOWER, MESH_BROW, strict=True))
IBUG = (
    ((36, 37, 38, 39), (36, 41, 40, 39), (17, 18, 19, 20, 21)),
    ((42, 43, 44, 45), (42, 47, 46, 45), (22, 23, 24, 25, 26)),
)
"""Upper lid, lower lid and brow of either eye; the latter among the 68 points that AD-NeRF and its followers store."""

LEAST_WIDTH = 1e-3
"""Of an eye, world units: landmarks that fell together must not divide by zero."""
SKIN = 0.8
"""Share of the way from an open lid to the brow on which the skin moves with the lid."""


def lid_curves(face: PosedLandmarks, openness: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 columns 4"]:
    """The lids of the right and the left eye.

    The upper lid moves with the openness and the lower one stays: at openness 0 they meet along the lower one's mean.

    Args:
        face: landmarks of the clip.
        openness: of the eyes, 0 closed to 1 open.

    Returns:
        For columns across each eye, from corner to corner: x, z where the lids meet, z of the open upper lid, and z up
        to which skin moves with it; world units, float32.
    """
    eyes = MESH if face.is_mesh else IBUG
    return np.stack([_eye(face, *eye, openness) for eye in eyes]).astype(np.float32)


def _eye(
    face: PosedLandmarks, upper: tuple[int, ...], lower: tuple[int, ...], brow: tuple[int, ...], openness: np.ndarray
) -> Float[np.ndarray, "columns 4"]:
    (up, *seen), (low, *low_seen), (brows, *brows_seen) = (face.tracks(part) for part in (upper, lower, brow))
    train = np.all([*seen, *low_seen, *brows_seen, face.is_train], axis=0)
    share = openness[train].astype(np.float64)
    x, low_line, brow_line = up[train, :, 0].mean(axis=0), low[train].mean(axis=0), brows[train].mean(axis=0)
    meet = _height(low_line, x)
    # Least squares for a gap that is proportional to the openness.
    gap = share @ (up[train, :, 1] - meet) / max(float(share @ share), 1e-9)
    columns = np.linspace(x[0], max(x[-1], x[0] + LEAST_WIDTH), COLUMNS)
    closed = _height(low_line, columns)
    opened = closed + np.maximum(_height(np.stack([x, gap], axis=1), columns), 0.0)
    # In the corners the lids always meet.
    opened[[0, -1]] = closed[[0, -1]]
    skin = SKIN * np.maximum(_height(brow_line, columns) - opened, 0.5 * float((opened - closed).max()))
    return np.stack([columns, closed, opened, opened + skin], axis=1)


def _height(line: Float[np.ndarray, "points 2"], x: Float[np.ndarray, " columns"]) -> Float[np.ndarray, " columns"]:
    """The height of a line through points at some x."""
    line = line[np.argsort(line[:, 0])]
    return np.interp(x, line[:, 0], line[:, 1])
