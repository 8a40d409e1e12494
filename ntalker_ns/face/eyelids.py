"""Eyelids: the curves along which they are open, along which they meet, and up to which the skin moves with them."""

import numpy as np
from jaxtyping import Float

from ntalker_ns.face.mesh_indices import Opening
from ntalker_ns.face.shape_basis import PosedLandmarks

COLUMNS = 9
"""Samples of a lid's curve across an eye."""

LEAST_WIDTH = 1e-3
"""Least width of an eye in world units, so that coinciding landmarks do not divide by zero."""
SKIN = 0.8
"""Fraction of the way from an open lid to the brow on which the skin moves with the lid."""
OPEN, CLOSED = 85, 0.5
"""Percentiles of the gap between the lids over a clip that are open and closed."""
LEAST_BLINK = 0.3
"""Gap up to which eyes count as closed, in units of the open one, where none is smaller: noise is no blink."""


def openness_of_gaps(gaps: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How open the eyes are, from 0 (closed) to 1 (as open as they usually are in this clip).

    The gap between the lids, normalised over the clip: its 85th percentile is open. Closed is the smallest gap seen if
    the person blinks at all, else 30% of the open one, so that a clip without a blink does not turn noise into blinks.

    Args:
        gaps: between the lids in each frame, in any unit.
    """
    opened = float(np.percentile(gaps, OPEN))
    closed = min(float(np.percentile(gaps, CLOSED)), LEAST_BLINK * opened)
    return np.clip((gaps - closed) / max(opened - closed, 1e-9), 0.0, 1.0)


def lid_curves(face: PosedLandmarks, openness: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 columns 4"]:
    """The lids of the right and the left eye.

    The upper lid moves with the openness and the lower one stays: at openness 0 they meet along the lower one's mean.

    Args:
        face: landmarks of the clip.
        openness: of the eyes, 0 closed to 1 open.

    Returns:
        For each eye, from corner to corner: x, z of the closed lids, z of the open upper lid, and z up to which the
        skin moves with it; world units, float32.
    """
    parts = zip(face.points.eyes, face.points.under_brows, strict=True)
    return np.stack([_eye(face, eye, brow, openness) for eye, brow in parts]).astype(np.float32)


def _eye(
    face: PosedLandmarks, eye: Opening, brow: tuple[int, ...], openness: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "columns 4"]:
    (up, *seen), (low, *low_seen), (brows, *brows_seen) = (face.tracks(part) for part in (*eye, brow))
    train = np.all([*seen, *low_seen, *brows_seen, face.is_train], axis=0)
    weight = openness[train].astype(np.float64)
    x, low_line, brow_line = up[train, :, 0].mean(axis=0), low[train].mean(axis=0), brows[train].mean(axis=0)
    meet = _height(low_line, x)
    # Least squares for a gap that is proportional to the openness.
    gap = weight @ (up[train, :, 1] - meet) / max(float(weight @ weight), 1e-9)
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
