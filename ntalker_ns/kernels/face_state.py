"""TODO ntalker_ns.kernels.face_state."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.training.transfers import to_device


@dataclass(frozen=True)
class Gate:
    """A union of balls with soft rims, in world units: 1 inside, 0 outside."""

    centers: tuple[tuple[float, float, float], ...]
    inner: float
    """Radius within which the gate is 1."""
    outer: float
    """Radius beyond which the gate is 0."""

    def __call__(self, positions: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples 1"]:
        """The gate's value in [0, 1] at each position: a smoothstep of the distance to the nearest centre."""
        backend = automatic_backend(positions.device.type)
        if backend == "numba" and positions.dtype == torch.float32:
            from ntalker_ns.kernels.numba import warp as numba_warp

            return numba_warp.gate(positions, np.array(self.centers, np.float32), self.inner, self.outer)
        if backend == "triton" and positions.dtype == torch.float32:
            from ntalker_ns.kernels.triton import warp as triton_warp

            return triton_warp.gate(positions, self)
        centers = self.centers_on(positions.device, positions.dtype)
        squared = ((positions[:, None, :] - centers) ** 2).sum(dim=-1).amin(dim=1, keepdim=True)
        # The tiny floor keeps the square root's gradient finite at a centre.
        distance = torch.sqrt(squared + 1e-12)
        x = ((self.outer - distance) / (self.outer - self.inner)).clamp(0.0, 1.0)
        return x * x * (3.0 - 2.0 * x)

    def centers_on(self, device: torch.device, kind: torch.dtype = torch.float32) -> Float[Tensor, "balls 3"]:
        """The centres on a device, brought there once."""
        return _on_device(self.centers, device, kind)


@lru_cache
def _on_device(centers: tuple[tuple[float, float, float], ...], device: torch.device, kind: torch.dtype) -> Tensor:
    """A gate's centres."""
    return to_device(torch.tensor(centers, dtype=kind), device)


def _point(keypoint: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in keypoint)
    return x, y, z


class Landmarks(NamedTuple):
    """Of frames, world units."""

    places: Float[Tensor, "frames points 2"]
    """x and z."""
    motion: Float[Tensor, "frames points 2"]
    """How they have moved from the mean face."""
    softness: float
    """See `LandmarkWarp`."""
