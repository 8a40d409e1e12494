"""Where a clip's head can be, before anything is learned: inside the outlines of its frames and in depth."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.rendering.occupancy import MASK_ERROR, OCCLUSION_MARGIN, OccupancyGrid, visual_hull, widen_mask

FRAMES = 60
"""Frames whose outlines are looked at, evenly over the clip."""


def carve(
    occupancy: OccupancyGrid,
    dataset: Any,
    shell: FaceShell | None,
    keypoints: dict[str, Float[np.ndarray, "3"]],
    occlusion_depth: float,
) -> None:
    """Closes cells for good: off the visual hull of the training masks, and off the shell of a known face, or else in
    front of the nose.

    Args:
        occupancy: its cells are closed.
        dataset: gives frames with labels, and their cameras.
        shell: of the face, where that is known.
        keypoints: of the head.
        occlusion_depth: how far behind what is seen the head is learned, world units.
    """
    picks = np.unique(np.linspace(0, len(dataset) - 1, FRAMES).round().astype(int))
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
        # No training ray comes by there, so nothing of it may stick out from behind what is seen.
        inner = hull | (deeper & hull_of(-OCCLUSION_MARGIN))
    shape = occupancy.occupied.shape
    occupancy.carve(hull.view(shape), inner.view(shape))
