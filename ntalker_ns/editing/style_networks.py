"""Networks that repaint a picture: in one of 26 learned styles, or in that of any painting. They come with the package.

`weights/styles.md` and `paintings/paintings.md` say where networks and paintings come from.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from ntalker_ns.data.images import fitted_size, read_picture
from ntalker_ns.media.pixels import from_uint8

Picture = Float32[np.ndarray, "h w 3"]
"""RGB in [0, 1]."""

STYLES = 26
"""Learned styles."""
SIDE = 512
"""Longest side in px at which a picture is repainted in a learned style: brush strokes have a width in px."""
PAINTED_SIDE = 384
"""Side in px of the network that takes a painting's style."""
PAINTING_SIDE = 256
"""Side in px at which it looks at the painting."""
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Painter:
    """A painter whose style the networks have."""

    words: str
    """Beginnings of words that name them, separated by |."""
    style: int | Path
    """A learned style, or a painting of theirs."""

    def is_in(self, instruction: str) -> bool:
        """Whether an instruction names them."""
        return re.search(rf"\b({self.words})", instruction.lower()) is not None


PAINTERS: dict[str, Painter] = {
    "van-gogh": Painter("gogh", FOLDER / "paintings" / "van-gogh.jpg"),
    "munch": Painter("munch", 5),
    "hokusai": Painter("hokusai", FOLDER / "paintings" / "hokusai.jpg"),
    "renoir": Painter("renoir", FOLDER / "paintings" / "renoir.jpg"),
}
"""By name."""


def painter_in(instruction: str) -> str | None:
    """The first painter of `PAINTERS` that an instruction names."""
    return next((name for name, painter in PAINTERS.items() if painter.is_in(instruction)), None)


def repaint(picture: Picture, style: int | Path) -> Picture:
    """A picture in another style; the same pixels give the same result.

    Args:
        picture: at any size.
        style: one of `STYLES` learned styles, or a painting's file.

    Raises:
        NTalkerError: the painting cannot be read.
    """
    height, width = picture.shape[:2]
    side = SIDE if isinstance(style, int) else PAINTED_SIDE
    small = _resized(picture, fitted_size((width, height), side, enlarge=True))
    made = _in_learned_style(small, style) if isinstance(style, int) else _in_style_of(small, style)
    return np.clip(_resized(made, (width, height)), 0.0, 1.0)


def _in_learned_style(picture: Picture, style: int) -> Picture:
    height, width = picture.shape[:2]
    # The network halves sides twice.
    padded = np.pad(picture, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    weights = np.eye(STYLES, dtype=np.float32)[style]
    image = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
    (made,) = _session("styles_26").run(None, {"image": image, "style_weights": weights})
    return made[0].transpose(1, 2, 0)[:height, :width]


def _in_style_of(picture: Picture, painting: Path) -> Picture:
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, PAINTED_SIDE - height), (0, PAINTED_SIDE - width), (0, 0)), mode="reflect")
    network = _session("style_applied")
    names = [one.name for one in network.get_inputs()]
    (made,) = network.run(None, dict(zip(names, (padded[None], _style_of(painting)), strict=True)))
    return made[0][:height, :width]


@cache
def _style_of(painting: Path) -> Float32[np.ndarray, "1 1 1 100"]:
    """The style of a painting's middle."""
    picture = from_uint8(read_picture(painting))
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    middle = _resized(picture[top : top + side, left : left + side], (PAINTING_SIDE, PAINTING_SIDE))
    (style,) = _session("style_of_picture").run(None, {"style_image": middle[None]})
    return style


@cache
def _session(name: str) -> Any:
    """A network, loaded once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: more change the sums' order, and so the pictures.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    path = FOLDER / "weights" / f"{name}.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _resized(picture: Picture, size: tuple[int, int]) -> Float32[np.ndarray, "new_h new_w 3"]:
    """At a width and height."""
    if picture.shape[1::-1] == size:
        return picture
    way = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=way)
