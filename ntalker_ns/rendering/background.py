"""What is behind the person: the plate and what was learned of it, a colour, a picture, or nothing."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.rendering.image_plane import look_up

HELP = "plate (the clip's own), transparent, a colour (a name or #rrggbb), or a picture file"
COARSER = 4
"""How many times coarser each learned picture is than the one before."""


@dataclass(frozen=True, eq=False)
class Background:
    """A choice of background."""

    kind: Literal["plate", "transparent", "colour", "picture"] = "plate"
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """RGB in [0, 1], of a colour."""
    picture: UInt8[np.ndarray, "h w 3"] | None = None
    """RGB, of a picture."""

    @classmethod
    def parse(cls, text: str) -> "Background":
        """Understands what a user asks for: see `HELP`.

        Raises:
            NTalkerError: it is none of these.
        """
        from PIL import ImageColor

        from ntalker_ns.data.images import read_picture

        if text == "plate":
            return cls()
        if text == "transparent":
            return cls("transparent")
        if Path(text).is_file():
            return cls("picture", picture=read_picture(Path(text)))
        try:
            red, green, blue = ImageColor.getrgb(text)[:3]
        except ValueError as error:
            raise NTalkerError(f"The background '{text}' is neither a file nor a colour; give {HELP}.") from error
        return cls("colour", (red / 255.0, green / 255.0, blue / 255.0))


class LearnedBackground(nn.Module):
    """The plate, and learned pictures that are added to it, each coarser than the one before.

    The plate keeps its own resolution; what is learned (noise that a median leaves, what stood behind the person all
    the time, an edit) is as fine as training sees. The coarse pictures learn what large areas have in common, from
    every pixel of them and also for those that the person always hides; the finest alone would take an edit pixel by
    pixel, in many more steps.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """
        Args:
            size: width and height of the finest picture in px.
        """
        super().__init__()
        levels = range(1 + int(math.log(max(size), COARSER)))
        sides = [tuple(max(round(side / COARSER**level), 1) for side in size) for level in levels]
        self.added = nn.ParameterList([nn.Parameter(torch.zeros(3, height, width)) for width, height in sides])

    def forward(self, places: Float[Tensor, "*shape 2"], plate: Float[Tensor, "*shape 3"]) -> Tensor:
        """RGB at places.

        Args:
            places: x and y in the clip's picture, 0 to 1.
            plate: the plate's colours there.
        """
        return sum((look_up(added, places) for added in self.added), start=plate)
