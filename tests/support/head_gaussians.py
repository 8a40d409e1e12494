"""A head of Gaussians around made-up keypoints."""

import numpy as np
import torch

from ntalker_ns.face.rig import Rig
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.splats.gaussians import WIDTHS, HeadGaussians
from support.made_up_lids import open_lids
from support.synthetic_clip import true_keypoints

COUNT = 300


def made_up_rig() -> Rig:
    rng, keypoints = np.random.default_rng(0), true_keypoints()
    places = {"lips": keypoints["mouth"][[0, 2]], "brows": keypoints["left_eye"][[0, 2]] + [0.0, 0.12]}
    lips, brows = (place + 0.1 * rng.normal(size=(12, 2)) for place in places.values())
    return Rig(
        keypoints=keypoints,
        lip_points=lips.astype(np.float32),
        lip_basis=(0.01 * rng.normal(size=(6, 12, 2))).astype(np.float32),
        brow_points=brows.astype(np.float32),
        brow_basis=(0.01 * rng.normal(size=(3, 12, 2))).astype(np.float32),
        lids=open_lids(keypoints),
    )


def head() -> tuple[HeadGaussians, torch.Tensor]:
    torch.manual_seed(0)
    gaussians = HeadGaussians(COUNT, made_up_rig(), Ops("cpu", "reference"))
    attributes = torch.rand(COUNT, sum(WIDTHS.values()))
    attributes[:, :3] = 1.4 * attributes[:, :3] - 0.7
    attributes[:, 1] = -0.6
    attributes[:, 3:6] -= 5.0
    gaussians.place(attributes, torch.arange(len(attributes)))
    return gaussians, attributes


def optimizer_of(gaussians: HeadGaussians) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(gaussians.parameters(), lr=1e-6)
    torch.stack([each.square().sum() for each in gaussians.parameters()]).sum().backward()
    optimizer.step()
    return optimizer
