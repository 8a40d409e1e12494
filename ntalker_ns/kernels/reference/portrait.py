"""A head over a picture that moves, over a background: the pixels of a video frame."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from ntalker_ns.kernels.types import MovingPicture


def moved_picture(picture: MovingPicture) -> Float[Tensor, "height width 4"]:
    """The picture as a camera sees it: premultiplied RGB and opacity.

    Displacements are bilinear between nodes, the texture between its pixels; beyond its rim the rim goes on.

    Args:
        picture: with what moves it, and the camera's columns and rows.
    """
    x, y = picture.x.clamp(0.0, 1.0), picture.y.clamp(0.0, 1.0)
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    # Nodes lie on the rim of [0, 1]; pixels of the texture inside of its own.
    shifts = grid_sample(picture.shifts.permute(2, 0, 1)[None], 2.0 * places - 1.0, align_corners=True)
    source = (places + shifts.permute(0, 2, 3, 1) + picture.margin) / (1.0 + 2.0 * picture.margin)
    texture = picture.texture.permute(2, 0, 1)[None]
    found = grid_sample(texture, 2.0 * source - 1.0, padding_mode="border", align_corners=False)
    return found[0].permute(1, 2, 0)


def portrait_frame(
    head: Float[Tensor, "height width 3"],
    opacity: Float[Tensor, "height width"],
    picture: MovingPicture,
    background: Float[Tensor, "height width 3"],
) -> UInt8[Tensor, "height width 3"]:
    """Head over picture over background, as the nearest of 256 levels; no gradient.

    Args:
        head: premultiplied.
        opacity: of the head.
        picture: between head and background.
        background: in [0, 1].
    """
    colour, covered = moved_picture(picture).split([3, 1], dim=-1)
    around = colour + (1.0 - covered) * background
    return (255.0 * (head + (1.0 - opacity[..., None]) * around).clamp(0.0, 1.0)).round().byte()
