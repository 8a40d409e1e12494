"""Where the head is in an edited frame: an edit may cover what was around the head (hair, a hat), or uncover it."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt

from ntalker_ns.media.masks import connected_to, disc

CLEAR, CORE = 0.02, 0.5
"""Opacities of the head below which a pixel shows what is around it, and above which it shows the head."""
LEAST_CHANGE = 0.07
"""Difference of colours below which a pixel never counts as covered."""
UNUSUAL = 5.0
"""Times the median difference from which on a pixel counts as covered."""
CONTRAST = 1.5
"""By how much an edit that leaves the outline may raise the contrast between head and surroundings."""
REACH = 0.75
"""How far from the head it may be covered, over the head's width."""
FEW_PIXELS = 50
"""Pixels of torso or background that a map of colours is fitted to at least."""
ROUNDS = 8
"""Of a robust fit."""


def edited_opacity(
    edited: Float32[np.ndarray, "h w 3"],
    unedited: Float32[np.ndarray, "h w 3"],
    head: Float32[np.ndarray, "h w 1"],
    torso: Float32[np.ndarray, "h w 1"],
    behind: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 1"]:
    """Opacity of the head in an edited frame.

    What the edit made of torso and background is a map of their colours, fitted where the head does not cover them.
    Beside the head, pixels that differ from it belong to the edited head; at its rim, pixels that equal it do not.

    Args:
        edited: the edited frame, RGB, 0 to 1.
        unedited: the same frame before.
        head: opacity of the head before the edit.
        torso: that of the torso.
        behind: torso and background without the head, before the edit.
    """
    opacity, radius = head[..., 0], max(round(head.shape[1] / 256), 1)
    core, clear = opacity > CORE, opacity < CLEAR
    if not core.any() or not clear.any():
        return head
    found = _compared(edited, unedited, head, torso, behind)
    grown = found.grown
    bare = _opened(core & (found.before > 2.0 * found.least) & (found.apart < 0.5 * found.least), 2 * radius)
    removed = bare & connected_to(bare | clear, clear)
    # Rims between the old head and what has grown on it were half transparent.
    wider = cv2.dilate(grown.astype(np.uint8), disc(3 * radius)) > 0
    matte = _matte(edited, found, core, 3 * radius)
    soft = np.maximum(opacity, cv2.GaussianBlur(matte, (0, 0), 0.7) * wider)
    soft *= 1.0 - cv2.GaussianBlur(removed.astype(np.float32), (0, 0), 0.7)
    return soft[..., None].astype(np.float32)


def within_outline(
    edited: Float32[np.ndarray, "h w 3"],
    unedited: Float32[np.ndarray, "h w 3"],
    head: Float32[np.ndarray, "h w 1"],
    torso: Float32[np.ndarray, "h w 1"],
    behind: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """An edited frame without paint that is joined to the head but lies outside its outline.

    Neither the head, whose outline is kept, nor the background moves as such paint would have to. In its place the
    background is shown in the colours that the edit gave it elsewhere. Paint on the torso stays.

    Args:
        edited: the edited frame, RGB, 0 to 1.
        unedited: the same frame before.
        head: opacity of the head before the edit, 0 to 1.
        torso: that of the torso.
        behind: torso and background without the head, before the edit, RGB, 0 to 1.
    """
    core, clear = head[..., 0] > CORE, head[..., 0] < CLEAR
    if not core.any() or not clear.any():
        return edited
    found = _compared(edited, unedited, head, torso, behind)
    radius = max(round(head.shape[1] / 256), 1)
    # Paint ends softly, and the head's rim lets through some of it.
    wide = cv2.dilate(found.grown.astype(np.uint8), disc(3 * radius)).astype(np.float32)
    beside = cv2.GaussianBlur(wide, (0, 0), radius)[..., None] * (1.0 - torso) * (1.0 - head)
    cleaned = unedited + (1.0 - head) * (found.surroundings - behind)
    return np.clip(edited + beside * (cleaned - edited), 0.0, 1.0).astype(np.float32)


class _Compared(NamedTuple):
    """An edited frame compared with its estimated surroundings."""

    surroundings: Float32[np.ndarray, "h w 3"]
    """Torso and background without the head, in the colours that the edit gave them, RGB, 0 to 1."""
    apart: Float32[np.ndarray, "h w"]
    """Distance of the edited frame's colours from these."""
    before: Float32[np.ndarray, "h w"]
    """Distance of the unedited frame's colours from the unedited surroundings."""
    least: float
    """Difference from which on a pixel counts as covered."""
    grown: Bool[np.ndarray, "h w"]
    """Pixels beside the head that were painted as part of it."""


def _compared(
    edited: Float32[np.ndarray, "h w 3"],
    unedited: Float32[np.ndarray, "h w 3"],
    head: Float32[np.ndarray, "h w 1"],
    torso: Float32[np.ndarray, "h w 1"],
    behind: Float32[np.ndarray, "h w 3"],
) -> _Compared:
    """Compares an edited frame with its surroundings; arguments as of `edited_opacity`."""
    opacity, radius = head[..., 0], max(round(head.shape[1] / 256), 1)
    core, clear = opacity > CORE, opacity < CLEAR
    expected = _edited_surroundings(edited, behind, head, torso)
    apart, before = (
        cv2.GaussianBlur(np.linalg.norm(one - other, axis=-1), (0, 0), 0.7)
        for one, other in ((edited, expected), (unedited, behind))
    )
    least = max(LEAST_CHANGE, UNUSUAL * float(np.median(apart[clear])))
    # The rim of the head shows some of it as it is.
    covered = _opened((apart > least + CONTRAST * before) & _near(core), radius) | core
    grown = _closed(connected_to(covered, core), radius) & ~core
    return _Compared(expected, apart, before, least, grown)


def _matte(
    edited: Float32[np.ndarray, "h w 3"], found: _Compared, core: Bool[np.ndarray, "h w"], rim: int
) -> Float32[np.ndarray, "h w"]:
    """Opacity of the old head and of what has grown on it, 0 to 1.

    Paint ends softly: a pixel of its rim that is half of the surroundings' colour is half covered. Taken as covered,
    it would show the surroundings wherever the head turns.

    Args:
        edited: the edited frame.
        found: its comparison with the surroundings.
        core: the old head.
        rim: width of the rim in px.
    """
    covered = (found.grown | core).astype(np.uint8)
    inner = cv2.erode(covered, disc(rim)) > 0
    matte = covered.astype(np.float32)
    if not inner.any():
        return matte
    away, (rows, columns) = distance_transform_edt(~inner, return_indices=True)  # type: ignore[misc]
    outer = found.grown & ~inner & (away <= 2 * rim)
    paint = (edited[rows[outer], columns[outer]] - found.surroundings[outer]).astype(np.float64)
    shown = ((edited - found.surroundings)[outer] * paint).sum(axis=-1)
    full = np.square(paint).sum(axis=-1)
    matte[outer] = np.where(full > found.least**2, np.clip(shown / np.maximum(full, 1e-9), 0.0, 1.0), 1.0)
    return matte


def _edited_surroundings(
    edited: Float32[np.ndarray, "h w 3"],
    behind: Float32[np.ndarray, "h w 3"],
    head: Float32[np.ndarray, "h w 1"],
    torso: Float32[np.ndarray, "h w 1"],
) -> Float32[np.ndarray, "h w 3"]:
    """What the edit would have shown without the head."""
    clear = head[..., 0] < CLEAR
    inputs = _inputs(behind)
    expected = np.zeros_like(behind)
    for layer in (torso, 1.0 - torso):
        where = clear & (layer[..., 0] > 0.5)
        if where.sum() < FEW_PIXELS:
            where = clear
        expected += layer * (behind + inputs @ _robust_fit(inputs[where], (edited - behind)[where]))
    return expected


def _inputs(colours: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 6"]:
    """Colour, place and one."""
    height, width = colours.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    place = np.stack([columns / width - 0.5, rows / height - 0.5, np.ones_like(rows)], axis=-1)
    return np.concatenate([colours, place], axis=-1)


def _robust_fit(
    inputs: Float32[np.ndarray, "pixels 6"], changes: Float32[np.ndarray, "pixels 3"]
) -> Float[np.ndarray, "6 3"]:
    """The linear map that most pixels follow, by iteratively reweighted least squares (Cauchy's weights)."""
    weights, ridge = np.ones(len(inputs)), 1e-3 * len(inputs) * np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1e-3])
    fitted = np.zeros((inputs.shape[1], 3))
    for _ in range(ROUNDS):
        weighted = inputs * weights[:, None]
        fitted = np.linalg.solve(weighted.T @ inputs + ridge, weighted.T @ changes)
        left = np.linalg.norm(changes - inputs @ fitted, axis=1)
        weights = 1.0 / (1.0 + (left / max(2.0 * float(np.median(left)), 0.01)) ** 2)
    return fitted


def _near(core: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels within reach of the head."""
    columns = np.flatnonzero(core.any(axis=0))
    away = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 3)
    return away < REACH * (columns[-1] - columns[0] + 1)


def _opened(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(radius)) > 0


def _closed(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc(2 * radius)) > 0
