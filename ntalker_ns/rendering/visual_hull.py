"""Bounds of a clip's head before training: the visual hull of its masks and the depth of the tracked face."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.rendering.occupancy import MASK_ERROR, OCCLUSION_MARGIN, OccupancyGrid, visual_hull, widen_mask

FRAMES = 60
"""Frames whose masks are used, evenly over the clip."""


def carve(
    occupancy: OccupancyGrid,
    dataset: Any,
    shell: FaceShell | None,
    keypoints: dict[str, Float[np.ndarray, "3"]],
    occlusion_depth: float,
) -> None:
    """Closes cells for good: outside of the visual hull of the training masks, and outside of the shell of the tracked
    face or, if it is unknown, in front of the nose.

    Args:
        occupancy: its cells are closed.
        dataset: frames with labels, and their cameras.
        shell: of the tracked face, if known.
        keypoints: of the head.
        occlusion_depth: depth of the occlusion prior, world units.
    """
    picks = evenly_spaced(FRAMES, len(dataset))
    heads = [np.asarray(dataset[int(i)]["labels"]) >= HEAD for i in picks]
    cameras, centers = dataset.cameras, occupancy.centers().view(-1, 3)
    poses = cameras.camera_to_worlds[picks].to(centers.device)
    intrinsics = tuple(float(getattr(cameras, name)[0]) for name in ("fx", "fy", "cx", "cy"))

    def hull_of(fraction: float) -> Bool[Tensor, "cells"]:
        masks = np.stack([widen_mask(head, fraction) for head in heads])
        return visual_hull(centers, poses, intrinsics, masks)  # type: ignore[arg-type]

    hull = hull_of(MASK_ERROR)
    hull &= _near_face(occupancy, shell, keypoints)
    inner = hull
    if shell is not None:
        deeper = _near_face(occupancy, shell, keypoints, occlusion_depth)
        # No training ray passes there, so it must not stick out from behind the visible surface.
        inner = hull | (deeper & hull_of(-OCCLUSION_MARGIN))
    shape = occupancy.occupied.shape
    occupancy.carve(hull.view(shape), inner.view(shape))


def open_outline(
    occupancy: OccupancyGrid,
    views: Sequence[OutlineView],
    shell: FaceShell | None,
    keypoints: dict[str, Float[np.ndarray, "3"]],
) -> None:
    """Opens cells for a head that an edit has made larger: those near the face that its frames show as head.

    Args:
        occupancy: its cells are opened.
        views: the edited frames.
        shell: of the tracked face, if known.
        keypoints: of the head.
    """
    chosen = [views[i] for i in evenly_spaced(min(FRAMES, len(views)), len(views))]
    centers = occupancy.centers().view(-1, 3)
    poses = torch.from_numpy(np.stack([view.camera_to_world for view in chosen])).to(centers)
    masks = np.stack([widen_mask(view.head, MASK_ERROR) for view in chosen])
    hull = visual_hull(centers, poses, chosen[0].intrinsics, masks)
    occupancy.reopen((hull & _near_face(occupancy, shell, keypoints)).view(occupancy.occupied.shape))


def _near_face(
    occupancy: OccupancyGrid,
    shell: FaceShell | None,
    keypoints: dict[str, Float[np.ndarray, "3"]],
    deeper: float = 0.0,
) -> Bool[Tensor, "cells"]:
    """Cells of the face's shell, reaching further back by some world units; if it is unknown, behind the nose."""
    if shell is not None:
        return torch.from_numpy(shell.cells(deeper)).to(occupancy.density.device).view(-1)
    eyes = np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"])
    return occupancy.centers().view(-1, 3)[:, 1] > float(keypoints["nose"][1] - 0.5 * eyes)
