"""Pictures of a video, rendered camera by camera."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.colormaps import apply_colormap, apply_depth_colormap

from ntalker_ns.console import progress_bar
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.pixels import to_uint8
from ntalker_ns.rendering.display import RUN_DISPLAY, DisplayOptions

Frame = TypeVar("Frame")


def rendered_frames(
    model: Any,
    cameras: Cameras,
    display: DisplayOptions = RUN_DISPLAY,
    outputs: Sequence[str] = ("rgb",),
) -> Iterator[UInt8[np.ndarray, "h w channels"]]:
    """Renders one camera after the other.

    Args:
        model: a `TalkerModel`.
        cameras: one per frame, on the CPU, with times.
        display: background and refinement weight; over a transparent background pictures are RGBA with straight alpha.
        outputs: what to show, side by side; single channels are shown through a colour map.

    Raises:
        NTalkerError: the model has no such output.
    """
    alpha = display.transparent
    plain = tuple(outputs) == ("rgb",) and not alpha
    for index in range(len(cameras)):
        if plain:
            yield model.video_frame(cameras[index : index + 1], display)
            continue
        rendered = model.get_outputs_for_camera(cameras[index : index + 1], display=display)
        yield np.concatenate([_picture(rendered, name, alpha) for name in outputs], axis=1)


def with_progress(frames: Iterable[Frame], total: int) -> Iterator[Frame]:
    """Yields frames under a progress bar that shows frames per second and the time left.

    Args:
        frames: rendered while they are iterated over.
        total: their number.
    """
    with progress_bar() as bar:
        task = bar.add_task("Rendering", total=total)
        begin = time.monotonic()
        for index, frame in enumerate(frames):
            rate = (index + 1) / max(time.monotonic() - begin, 1e-6)
            bar.update(task, advance=1, description=f"Rendering {rate:.1f} fps")
            yield frame


OPACITIES = {"rgb": "opacity", **{name: f"{name}_opacity" for name in ("head", "torso", "background")}}
"""The opacity that a colour was multiplied by."""


def _picture(rendered: dict[str, Any], name: str, alpha: bool) -> UInt8[np.ndarray, "h w channels"]:
    if name not in rendered:
        raise NTalkerError(f"There is no output '{name}'; choose from {', '.join(sorted(rendered))}.")
    image = rendered[name]
    if name == "depth":
        image = apply_depth_colormap(image, rendered["accumulation"])
    elif image.shape[-1] == 1:
        image = apply_colormap(image)
    if alpha:
        opacity = rendered[OPACITIES[name]] if name in OPACITIES else torch.ones_like(image[..., :1])
        image = torch.cat([image / opacity.clamp(min=1e-6), opacity], dim=-1)
    return to_uint8(image)
