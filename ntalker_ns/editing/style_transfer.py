"""An editor of painting styles: small networks that repaint a picture in a learned style, or in that of any picture.

Each frame is repainted by itself and flickers; the head learns what the frames have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.editing.filters import filter_amount
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.style_networks import PAINTERS, STYLES, Picture, painter_in, repaint
from ntalker_ns.errors import NTalkerError


@dataclass
class StyleEditorConfig(EditorConfig):
    """Painting styles by small networks, which come with the package."""

    _target: type = field(default_factory=lambda: StyleEditor)
    style: Literal["van-gogh", "munch", "hokusai", "renoir"] | int | None = None
    """A painter, or one of 26 learned styles, 0 to 25. None: the painter that the instruction names, or van-gogh."""
    style_picture: Path | None = None
    """A painting whose style is used instead."""
    preserve_colour: bool = False
    """Take brightness from the style and colours from the frame."""
    full_guidance: float = 6.0
    """Text guidance scale at which the style is applied in full, if all diffusion steps are run."""

    def check(self, instruction: str) -> None:
        """See `EditorConfig.check`.

        Raises:
            NTalkerError: there is no such style or picture.
        """
        if isinstance(self.style, int) and not 0 <= self.style < STYLES:
            raise NTalkerError(f"--editor.style {self.style} is not one of the styles 0 to {STYLES - 1}.")
        if self.style_picture is not None and not self.style_picture.is_file():
            raise NTalkerError(f"There is no picture at {self.style_picture}: check --editor.style-picture.")

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        return (
            f"Style network ({self._name(instruction)}): at guidance s and t of t_u steps it is applied by "
            f"t / t_u * (s - 1) / {self.full_guidance - 1:g}, at most in full."
        )

    def default_instruction(self) -> str:
        """See `EditorConfig.default_instruction`."""
        return f"Painting in {self._name('')}"

    def applied(self, instruction: str) -> int | Path:
        """The learned style, or the painting whose style is taken.

        Args:
            instruction: may name a painter.
        """
        chosen = self._chosen(instruction)
        return PAINTERS[chosen].style if isinstance(chosen, str) else chosen

    def _chosen(self, instruction: str) -> str | int | Path:
        if self.style_picture is not None:
            return self.style_picture
        return (painter_in(instruction) or "van-gogh") if self.style is None else self.style

    def _name(self, instruction: str) -> str:
        chosen = self._chosen(instruction)
        if isinstance(chosen, Path):
            return f"the style of {chosen.name}"
        return f"style {chosen}" if isinstance(chosen, int) else f"the style of {chosen}"


class StyleEditor:
    """Repaints frames one by one; see `Editor`."""

    def __init__(self, config: StyleEditorConfig) -> None:
        """
        Args:
            config: names the style.
        """
        self.config = config

    def edits_original(self, device: torch.device) -> bool:
        """See `Editor.edits_original`: a style is given to the head as it is now, as the paper's editor does."""
        return False

    def unload(self) -> None:
        """See `Editor.unload`; the networks are small and stay."""

    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """See `Editor.edit`; given conditions, those are repainted and mixed into the frames."""
        amount, style = filter_amount(strength, self.config.full_guidance), self.config.applied(instruction)
        painted = torch.stack([self._painted(frame, style) for frame in (frames if conditions is None else conditions)])
        return (frames + amount * (painted.to(frames) - frames)).clamp(0.0, 1.0)

    def _painted(self, frame: Float[Tensor, "3 h w"], style: int | Path) -> Float[Tensor, "3 h w"]:
        picture = frame.permute(1, 2, 0).float().cpu().numpy()
        painted = repaint(picture, style)
        made = _with_brightness_of(painted, picture) if self.config.preserve_colour else painted
        return torch.from_numpy(made).permute(2, 0, 1)


def _with_brightness_of(painted: Picture, picture: Picture) -> Picture:
    """A picture's colours with the brightness of its painting."""
    luma, colours = (cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2YCrCb) for one in (painted, picture))
    colours[..., 0] = luma[..., 0]
    return np.clip(cv2.cvtColor(colours, cv2.COLOR_YCrCb2RGB), 0.0, 1.0)
