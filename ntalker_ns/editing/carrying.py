"""Carries what was painted on some frames of a head to its other frames.

A painted frame shows how colours changed at the points of the head that it sees. Where another frame sees one of these
points, its colour changes by the same amount. Everything else (the sides, what was covered, the mouth inside) changes
by a smooth transform of colours, learned from what the painted frames show. Where outlines may change, what was painted
beside the head lies on the shell of the tracked face, and covers what other frames show around the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from ntalker_ns.editing.colour_transform import ColourTransform
from ntalker_ns.editing.outline import edited_opacity, within_outline
from ntalker_ns.editing.views import INSIDE, FrameView

OPAQUE = 0.9
"""Opacity of the head from which on a pixel's depth can be relied on."""
CLEAR = 0.05
"""Opacity of the head below which a pixel shows torso or background."""
REACH = 0.08
"""Distance over the distance between the eyes at which a painted point is no longer taken for the same point."""
HEAD_KERNEL = (0.5, 0.12)
"""Widths of the colour transform's kernel on the head: position over the distance between the eyes, and colour."""
AROUND_KERNEL = (0.15, 0.12)
"""The same around the head: position over the picture's width, and colour."""
SOLID = 0.95
"""Opacity of a painted head from which on a pixel shows the paint alone."""
RIM = 0.05
"""Width of the head's rim over its own, on which what was painted beside the head goes on."""
ALIKE = 0.06
"""Difference of colours up to which the same place shows the same part of torso or background."""
MOUTH_PIXELS = 40
"""Pixels of the mouth inside that a picture must show to be learned from."""


@dataclass(frozen=True, eq=False)
class PaintedView:
    """A frame and what it was painted like."""

    view: FrameView
    edited: Float32[np.ndarray, "h w 3"]
    """Of the view's size and aligned with its picture, RGB, 0 to 1."""

    @property
    def change(self) -> Float32[np.ndarray, "h w 3"]:
        """What the painting added to the colours."""
        return self.edited - self.view.picture

    @cached_property
    def opacity(self) -> Float32[np.ndarray, "h w"]:
        """Of the painted head, 0 to 1; of the head before where outlines are kept."""
        view = self.view
        if view.beside is None or view.behind is None:
            return view.head[..., 0]
        return edited_opacity(self.edited, view.picture, view.head, view.torso, view.behind)[..., 0]

    @cached_property
    def grown(self) -> Bool[np.ndarray, "h w"]:
        """Pixels beside the head that were painted as part of it; none where outlines are kept."""
        head = self.view.head[..., 0]
        new = (self.opacity > 0.5) & (head < 0.5)
        wider = cv2.dilate(new.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        return wider & (self.opacity > 0.5) & (head < OPAQUE)

    def paint(self) -> Float32[np.ndarray, "h w 3"]:
        """The painted colours; on the soft rim of what was painted beside the head, those of the nearest pixel that
        shows nothing of the surroundings."""
        soft = self.grown & (cv2.erode(self.opacity, np.ones((3, 3), np.uint8)) < SOLID)
        if not soft.any() or soft.all():
            return self.edited
        solid = (self.opacity >= SOLID) & ~soft
        rows, columns = distance_transform_edt(~solid, return_distances=False, return_indices=True)  # type: ignore[misc]
        return np.where(soft[..., None], self.edited[rows, columns], self.edited)

    def within_outline(self) -> "PaintedView":
        """The same without what was painted beside the head, where outlines are kept."""
        view = self.view
        if view.beside is not None or view.behind is None:
            return self
        kept = within_outline(self.edited, view.picture, view.head, view.torso, view.behind)
        return PaintedView(view, kept)

    @property
    def clear(self) -> Bool[np.ndarray, "h w"]:
        """Pixels that show torso or background, before the painting and after it."""
        return (self.view.head[..., 0] < CLEAR) & ~self.grown


class Carrier:
    """Carries the change of painted frames to other frames."""

    def __init__(self, painted: Sequence[PaintedView], eye_distance: float) -> None:
        """
        Args:
            painted: at least one.
            eye_distance: between the eyes, world units.
        """
        self.eye_distance = eye_distance
        painted = [one.within_outline() for one in painted]
        self._surfaces = [_PaintedSurface(one, REACH * eye_distance) for one in painted]
        self._around = [_PaintedPlane(one) for one in painted]
        self._beside = [_PaintedBeside(one, REACH * eye_distance) for one in painted if one.grown.any()]
        colours, changes = (
            np.concatenate([getattr(surface, name) for surface in self._surfaces]) for name in ("colours", "changes")
        )
        points = np.concatenate([surface.points for surface in self._surfaces])
        self._head_transform = ColourTransform.fit(self._head_features(points, colours), colours, changes)
        self._mouth_transform = _mouth_transform(painted)
        self._around_transform = _around_transform(painted)

    def carry(self, view: FrameView) -> Float32[np.ndarray, "h w 3"]:
        """A frame as if it had been painted too, RGB, 0 to 1."""
        head = view.head
        change = head * self._on_head(view) + (1.0 - head) * self._behind(view)
        picture = np.clip(view.picture + change, 0.0, 1.0).astype(np.float32)
        for beside in self._beside:
            beside.cover(picture, view)
        return picture

    def _on_head(self, view: FrameView) -> Float32[np.ndarray, "h w 3"]:
        """The change of what the head shows; 0 where there is none of it."""
        shown = view.head[..., 0] > CLEAR
        inside = shown & (view.mouth[..., 0] == INSIDE)
        skin = shown & ~inside
        change = np.zeros_like(view.picture)
        if inside.any():
            colours = view.picture[inside]
            change[inside] = self._mouth_transform.changes(colours / HEAD_KERNEL[1], colours)
        if not skin.any():
            return change
        points, colours = view.canonical[skin], view.picture[skin]
        found = [surface.look_up(points) for surface in self._surfaces]
        seen = np.stack([weight for _, weight in found])
        total = seen.sum(axis=0)
        painted = sum(weight[:, None] * values for values, weight in found) / np.maximum(total, 1e-6)[:, None]
        known = _smoothed(seen.max(axis=0), skin)[skin][:, None]
        learned = self._head_transform.changes(self._head_features(points, colours), colours)
        change[skin] = learned + known * (painted - learned)
        return change

    def _behind(self, view: FrameView) -> Float32[np.ndarray, "h w 3"]:
        """The change of torso and background."""
        shown = view.head[..., 0] < 1.0
        change = np.zeros_like(view.picture)
        if not shown.any():
            return change
        seen = np.stack([plane.seen_in(view) for plane in self._around])
        painted = np.stack([plane.change_at(view.size) for plane in self._around])
        total = seen.sum(axis=0)
        mean = (seen * painted).sum(axis=0) / np.maximum(total, 1e-6)
        colours = view.picture[shown]
        learned = self._around_transform.changes(_around_features(view, shown), colours)
        known = seen.max(axis=0)[shown]
        change[shown] = learned + known * (mean[shown] - learned)
        return change

    def _head_features(
        self, points: Float[np.ndarray, "n 3"], colours: Float[np.ndarray, "n 3"]
    ) -> Float[np.ndarray, "n 6"]:
        place, colour = HEAD_KERNEL
        return np.concatenate([points / (place * self.eye_distance), colours / colour], axis=1)


class _PaintedSurface:
    """The points of the head that a painted frame sees, the mouth's inside left out, and their change."""

    def __init__(self, painted: PaintedView, reach: float) -> None:
        view = painted.view
        self._reach = reach
        self._mask = (view.head[..., 0] > OPAQUE) & (view.mouth[..., 0] != INSIDE)
        self._rows, self._columns = np.nonzero(self._mask)
        self.points = view.canonical[self._mask]
        self.colours, self.changes = view.picture[self._mask], painted.change[self._mask]
        self._tree = KDTree(self.points)
        weight = self._mask[..., None].astype(np.float32)
        # Change and weight: interpolation then leaves pixels out that do not show the surface.
        self._weighted = np.concatenate([painted.change * weight, weight], axis=-1)
        smooth = _smoothed_points(view.canonical, self._mask)
        self._across, self._down = np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)
        self._facing = self._facing_weights()

    def _facing_weights(self) -> Float32[np.ndarray, "h w"]:
        """Lower where the surface is seen at a grazing angle, and so painted with few pixels and uncertain depth."""
        area = np.linalg.norm(np.cross(self._across, self._down), axis=-1)
        typical = np.median(area[self._mask]) if self._mask.any() else 1.0
        edge = cv2.distanceTransform(self._mask.astype(np.uint8), cv2.DIST_L2, 3)
        edge = np.clip(edge / (0.008 * self._mask.shape[1]), 0.0, 1.0)
        return (edge * np.clip(4.0 * typical / np.maximum(area, 1e-12), 0.0, 1.0)).astype(np.float32)

    def look_up(
        self, points: Float32[np.ndarray, "n 3"]
    ) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n"]]:
        """The change at canonical points, and how sure it is that this frame shows them, 0 to 1."""
        _, nearest = self._tree.query(points, workers=-1)
        rows, columns = self._rows[nearest], self._columns[nearest]
        away = points - self.points[nearest]
        right, down, left = self._within_pixel(away, self._across[rows, columns], self._down[rows, columns])
        where = np.stack([columns + right, rows + down], axis=-1).astype(np.float32)
        sampled = _bilinear(self._weighted, where)
        weight = sampled[:, 3:]
        change = sampled[:, :3] / np.maximum(weight, 1e-3)
        sure = np.exp(-((left / self._reach) ** 2)) * self._facing[rows, columns] * np.clip(2.0 * weight[:, 0], 0, 1)
        return change, sure.astype(np.float32)

    def _within_pixel(
        self, away: Float[np.ndarray, "n 3"], across: Float[np.ndarray, "n 3"], down: Float[np.ndarray, "n 3"]
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Steps to the right and down, in px, that bring the nearest pixel's point closest to the one looked for, and
        the distance that is left."""
        aa, dd, ad = (across**2).sum(-1), (down**2).sum(-1), (across * down).sum(-1)
        a, d = (across * away).sum(-1), (down * away).sum(-1)
        ground = np.maximum(aa * dd - ad**2, 1e-18)
        right = np.clip((a * dd - d * ad) / ground, -1.0, 1.0)
        below = np.clip((d * aa - a * ad) / ground, -1.0, 1.0)
        left = np.linalg.norm(away - right[:, None] * across - below[:, None] * down, axis=-1)
        return right, below, left


class _PaintedBeside:
    """What a painted frame shows beside the head and on the rim that joins it: points of the shell, and colours."""

    def __init__(self, painted: PaintedView, reach: float) -> None:
        beside = painted.view.beside
        assert beside is not None
        self._reach = reach
        width = np.ptp(np.flatnonzero(painted.view.head[..., 0].max(axis=0) > 0.5)) + 1
        self._rim = RIM * width / painted.view.size[0]
        away = cv2.distanceTransform((~painted.grown).astype(np.uint8), cv2.DIST_L2, 3)
        self._rows, self._columns = np.nonzero((away < RIM * width) & beside.any(axis=-1) & ~painted.clear)
        # The shell is a function of x and z, and steep at its rim.
        self._tree = KDTree(beside[self._rows, self._columns][:, ::2])
        self._edited = painted.paint()

    def cover(self, picture: Float32[np.ndarray, "h w 3"], view: FrameView) -> None:
        """Paints over what another frame shows around its head, fading out towards the inside of its rim."""
        assert view.beside is not None
        free = view.beside.any(axis=-1)
        if not free.any():
            return
        distances, nearest = self._tree.query(view.beside[free][:, ::2], k=4, workers=-1)
        weights = np.exp(-((distances / (0.5 * self._reach)) ** 2)) + 1e-12
        rows, columns = self._rows[nearest], self._columns[nearest]
        colours = (weights[..., None] * self._edited[rows, columns]).sum(axis=1) / weights.sum(axis=1)[:, None]
        within = cv2.distanceTransform((view.head[..., 0] > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        fading = np.clip(2.0 - 2.0 * within / max(self._rim * view.size[0], 1.0), 0.0, 1.0)
        cover = np.zeros(free.shape, np.float32)
        cover[free] = distances[:, 0] < self._reach
        cover = cv2.GaussianBlur(cover, (0, 0), 0.7)[..., None] * fading[..., None]
        painted = np.zeros_like(picture)
        painted[free] = colours
        picture += np.where(free[..., None], cover * (painted - picture), 0.0)


class _PaintedPlane:
    """Torso and background of a painted frame, in the picture's plane."""

    def __init__(self, painted: PaintedView) -> None:
        self._picture = painted.view.picture
        self._clear = painted.clear.astype(np.float32)
        self._weighted = painted.change * self._clear[..., None]

    def seen_in(self, view: FrameView) -> Float32[np.ndarray, "h w 1"]:
        """How sure it is that another frame shows the same of them at the same places, 0 to 1."""
        around = np.clip(2.0 * cv2.blur(_resized(self._clear, view.size), (3, 3)) - 1.0, 0.0, 1.0)
        # The torso moves: where the colours were others before the edit, it is another part of it.
        apart = ((_resized(self._picture, view.size) - view.picture) ** 2).sum(axis=-1)
        alike = cv2.GaussianBlur(np.exp(-0.5 * apart / ALIKE**2), (0, 0), 0.004 * view.size[0])
        return (around * alike)[..., None]

    def change_at(self, size: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
        """Their change, at a width and height."""
        return _resized(self._weighted, size) / np.maximum(_resized(self._clear, size), 1e-3)[..., None]


def _mouth_transform(painted: Sequence[PaintedView]) -> ColourTransform:
    """Of the mouth inside, from colours alone: learned from what the pictures show of it, and from the head without
    the lips, whose paint is not for teeth and tongue."""
    colours, changes = [], []
    for one in painted:
        head, mouth = one.view.head[..., 0] > OPAQUE, one.view.mouth[..., 0]
        inside = head & (mouth == INSIDE)
        rest = head & (mouth == 0)
        # The mouth is small: what is seen of it counts as much as all the rest.
        repeats = max(int(rest.sum()) // max(int(inside.sum()), 1), 1) if inside.sum() >= MOUTH_PIXELS else 0
        for mask, times in ((rest, 1), (inside, repeats)):
            colours.append(np.tile(one.view.picture[mask], (times, 1)))
            changes.append(np.tile(one.change[mask], (times, 1)))
    all_colours = np.concatenate(colours)
    return ColourTransform.fit(all_colours / HEAD_KERNEL[1], all_colours, np.concatenate(changes))


def _around_transform(painted: Sequence[PaintedView]) -> ColourTransform:
    """Of torso and background."""
    masks = [one.clear for one in painted]
    if not any(mask.any() for mask in masks):
        masks = [np.ones_like(mask) for mask in masks]
    features = np.concatenate([_around_features(one.view, mask) for one, mask in zip(painted, masks, strict=True)])
    colours = np.concatenate([one.view.picture[mask] for one, mask in zip(painted, masks, strict=True)])
    changes = np.concatenate([one.change[mask] for one, mask in zip(painted, masks, strict=True)])
    return ColourTransform.fit(features, colours, changes)


def _around_features(view: FrameView, mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "n 6"]:
    """Position in the picture, torso or background, and colour."""
    rows, columns = np.nonzero(mask)
    place, colour = AROUND_KERNEL
    where = (np.stack([columns, rows], axis=1) + 0.5) / (place * view.size[0])
    return np.concatenate([where, 3.0 * view.torso[mask], view.picture[mask] / colour], axis=1)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    way = cv2.INTER_AREA if values.shape[1] > size[0] else cv2.INTER_LINEAR
    return cv2.resize(values, size, interpolation=way)


def _smoothed(values: Float[np.ndarray, "n"], mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Values of a mask's pixels, averaged with those of their neighbours in it: seams disappear."""
    plane = np.zeros(mask.shape, np.float32)
    plane[mask] = values
    sigma = 0.006 * mask.shape[1]
    total = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    return cv2.GaussianBlur(plane, (0, 0), sigma) / np.maximum(total, 1e-3)


def _smoothed_points(
    points: Float32[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """Points averaged with those of neighbours in the mask, for their derivatives."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(weight, (0, 0), 1.0)
    return cv2.GaussianBlur(points * weight[..., None], (0, 0), 1.0) / np.maximum(total, 1e-3)[..., None]


def _bilinear(picture: Float32[np.ndarray, "h w c"], where: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n c"]:
    """Values at x, y in px, pixel centres at whole numbers. remap takes few columns, so places are folded into rows."""
    width = 4096
    rows = -(-len(where) // width)
    padded = np.zeros((rows * width, 2), np.float32)
    padded[: len(where)] = where
    x, y = np.moveaxis(padded.reshape(rows, width, 2), -1, 0)
    sampled = cv2.remap(picture, x.copy(), y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(rows * width, -1)[: len(where)]
