"""Pictures in bytes and in numbers from 0 to 1: one conversion each way."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


def to_uint8(picture: "Float[np.ndarray, '...'] | Float[Tensor, '...']") -> UInt8[np.ndarray, "..."]:
    """Values in [0, 1] as the nearest of 256 levels, on the host; values beyond are clipped."""
    if isinstance(picture, np.ndarray):
        return np.rint(255.0 * np.clip(picture, 0.0, 1.0)).astype(np.uint8)
    return (255.0 * picture.detach().float().clamp(0.0, 1.0)).round().byte().cpu().numpy()


def from_uint8(picture: "Array") -> "Array":
    """Levels from 0 to 255 as float32 in [0, 1]; tensors stay on their device."""
    if isinstance(picture, np.ndarray):
        return picture.astype(np.float32) / np.float32(255.0)
    return picture.float() / 255.0
