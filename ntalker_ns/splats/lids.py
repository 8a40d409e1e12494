"""Lids of Gaussians: the skin above an eye slides down along the lid's edge, and the eye behind it disappears.

The forward direction of `ntalker_ns.kernels.reference.warp.lid_rise`, in the head's x, z plane: with an eye column's
heights meet (closed lids), opened (open upper lid) and top (of the skin that moves), the edge is at
meet + openness (opened - meet). Skin at height z between opened and top moves to top - (top - z) s, where
s = (top - edge) / (top - opened): linear in the closure of the eyes, and stretched by s.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.kernels.types import Gaussians

HIDDEN = 8.0
"""By how much the logit of an opacity falls behind a lid."""

RIM = 0.06
"""Width of a lid's edge, within which an eye disappears, over the width of the eye."""

LEAST_HEIGHT = 1e-6
"""Heights are at least this, in world units, so that no corner of an eye divides by zero."""


class LidFold(NamedTuple):
    """The Gaussians that lids move or hide."""

    index: Int[Tensor, "some"]
    gate: Float[Tensor, "some"]
    """Of the eyes."""
    fall: Float[Tensor, "some"]
    """How far each moves down when the eyes close, world units; 0: it is not skin above an eye."""
    growth: Float[Tensor, "some"]
    """By what fraction the skin is then longer."""
    above: Float[Tensor, "some"]
    """Height over the meeting lids as a fraction of the open gap, of an eye behind lids; below 0: it is none."""
    rim: Float[Tensor, "some"]
    """Width of the lid's edge, as the same fraction."""

    @classmethod
    def at(
        cls, positions: Float[Tensor, "n 3"], gate: Float[Tensor, "n"], lids: Float[Tensor, "2 columns 4"]
    ) -> "LidFold":
        """The fold of Gaussians at rest.

        Args:
            positions: world.
            gate: of the eyes.
            lids: see `ntalker_ns.face.eyelids.lid_curves`.
        """
        fall, growth = torch.zeros_like(gate), torch.zeros_like(gate)
        above, rim = torch.full_like(gate, -1.0), torch.ones_like(gate)
        x, z = positions[:, 0], positions[:, 2]
        for eye in lids.to(positions):
            last = len(eye) - 1
            width = eye[-1, 0] - eye[0, 0]
            column = (x - eye[0, 0]) / width * last
            left = column.clamp(0, last).floor().long().clamp(max=last - 1)
            meet, opened, top = torch.lerp(eye[left, 1:], eye[left + 1, 1:], (column - left)[:, None]).unbind(dim=1)
            gap, skin = (opened - meet).clamp(min=LEAST_HEIGHT), (top - opened).clamp(min=LEAST_HEIGHT)
            across = (column >= 0) & (column <= last)
            is_skin = across & (z >= opened) & (z < top)
            fall = torch.where(is_skin, gap / skin * (top - z), fall)
            growth = torch.where(is_skin, gap / skin, growth)
            is_eye = across & (z < opened) & (z > meet)
            above = torch.where(is_eye, (z - meet) / gap, above)
            rim = torch.where(is_eye, RIM * width / gap, rim)
        index = _inside(gate)
        return cls(index, *(each[index] for each in (gate, fall, growth, above, rim)))


def _inside(gate: Float[Tensor, "n"]) -> Int[Tensor, "some"]:
    """Where a gate is open; everywhere on a device, where compacting would need a synchronisation."""
    if gate.device.type != "cpu":
        return torch.arange(len(gate), device=gate.device)
    return gate.nonzero().squeeze(-1)


def fold(gaussians: Gaussians, lids: LidFold, closure: Float[Tensor, ""]) -> Gaussians:
    """Closes the eyes of Gaussians.

    Args:
        gaussians: with open eyes.
        lids: of them.
        closure: 0 open to 1 closed.
    """
    index, closed = lids.index, closure * lids.gate
    shift = torch.zeros_like(gaussians.means[index])
    shift[:, 2] = -closed * lids.fall
    stretch = torch.log1p(closed * lids.growth)[:, None] * _upward(gaussians.quaternions[index])
    hidden = ((lids.above - (1.0 - closure)) / lids.rim + 0.5).clamp(0.0, 1.0) * closed.clamp(max=0.1) * 10.0
    hidden = torch.where(lids.above >= 0.0, hidden, 0.0)
    return replace(
        gaussians,
        means=gaussians.means.index_add(0, index, shift),
        log_scales=gaussians.log_scales.index_add(0, index, stretch),
        opacity_logits=gaussians.opacity_logits.index_add(0, index, -HIDDEN * hidden),
    )


def _upward(quaternions: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3"]:
    """Squared cosine between each axis of Gaussians and the head's z; no gradient."""
    w, x, y, z = torch.nn.functional.normalize(quaternions.detach(), dim=-1).unbind(dim=-1)
    return torch.stack([2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)], dim=-1).square()
