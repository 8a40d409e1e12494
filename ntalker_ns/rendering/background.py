"""Backgrounds: the plate with a learned residual, a colour, a picture, or transparency."""

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
"""Ratio of the sizes of successive learned pictures."""


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
        """Parses a user's choice, see `HELP`.

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
    """The plate plus a pyramid of learned pictures.

    The plate keeps its own resolution; the pictures correct it (noise of the median, areas always behind the person,
    edits). The coarse ones learn large areas at once, hidden pixels included; the finest alone would need many more
    steps.
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
