"""Bounds of a clip's head before training: the visual hull of its masks and the depth of the tracked face."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntalker_ns.data.head_removal import HEAD
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

    def hull_of(share: float) -> Bool[Tensor, "cells"]:
        masks = np.stack([widen_mask(head, share) for head in heads])
        return visual_hull(centers, poses, intrinsics, masks)  # type: ignore[arg-type]

    hull = hull_of(MASK_ERROR)
    if shell is None:
        eyes = np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"])
        inner = hull = hull & (centers[:, 1] > float(keypoints["nose"][1] - 0.5 * eyes))
    else:
        near, deeper = (
            torch.from_numpy(shell.cells(depth)).to(hull.device).view(-1) for depth in (0.0, occlusion_depth)
        )
        hull &= near
        # No training ray passes there, so it must not stick out from behind the visible surface.
        inner = hull | (deeper & hull_of(-OCCLUSION_MARGIN))
    shape = occupancy.occupied.shape
    occupancy.carve(hull.view(shape), inner.view(shape))
