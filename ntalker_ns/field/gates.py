"""Where speech, blinks and brows may act.

A radiance field that hears audio everywhere learns to tell training frames apart by it: every frame has its own
sound, so the code becomes the frame's name and the whole head follows it. Here the audio coordinate is multiplied
by a gate that is exactly zero away from mouth and jaw, and the eye value by one that is zero away from the eyes. What
the brows do is only a motion of space, which ends around them.
What speech does not move then cannot depend on speech, by construction and not by a loss weight.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.async_copies import to_device
from ntalker_ns.encodings.hash_grid import automatic_backend


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
            from ntalker_ns.field import numba_bends

            return numba_bends.gate(positions, np.array(self.centers, np.float32), self.inner, self.outer)
        if backend == "triton" and positions.dtype == torch.float32:
            from ntalker_ns.field import triton_bends

            return triton_bends.gate(positions, self)
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


def _point(anchor: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in anchor)
    return x, y, z


def speech_gate(anchors: dict[str, np.ndarray]) -> Gate:
    """Mouth, chin and the cheeks beside them: what the jaw and the lips move.

    Args:
        anchors: (3,) world points `mouth`, `chin`, `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(anchors["left_eye"] - anchors["right_eye"]))
    center = anchors["mouth"] + 0.35 * (anchors["chin"] - anchors["mouth"])
    return Gate((_point(center),), inner=0.8 * between_eyes, outer=1.3 * between_eyes)


def eye_gate(anchors: dict[str, np.ndarray]) -> Gate:
    """Eyelids.

    Args:
        anchors: (3,) world points `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(anchors["left_eye"] - anchors["right_eye"]))
    centers = (_point(anchors["left_eye"]), _point(anchors["right_eye"]))
    return Gate(centers, inner=0.3 * between_eyes, outer=0.5 * between_eyes)


def brow_gate(anchors: dict[str, np.ndarray]) -> Gate:
    """Brows and the forehead over them.

    Args:
        anchors: (3,) world points `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(anchors["left_eye"] - anchors["right_eye"]))
    above = np.array([0.0, 0.0, 0.3 * between_eyes])
    centers = (_point(anchors["left_eye"] + above), _point(anchors["right_eye"] + above))
    return Gate(centers, inner=0.45 * between_eyes, outer=0.7 * between_eyes)
