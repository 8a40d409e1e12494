"""The Gaussians of a head: attributes at rest, and what lips, brows, lids and light change of them.

attributes = base + sum_k gate_k(base position) w_k delta_k, with w the numbers of lips and jaw, of the brows and the
closure of the eyes: linear, as blendshapes are (RGBAvatar, 2025, learns 20 of them; here their amounts are measured or
predicted, and no network runs in a frame). Lids fold exactly (`ntalker_ns.splats.lids`). Colour also follows the head's
pose: light stays where it is while a head turns.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ntalker_ns.face.rig import Rig
from ntalker_ns.field.gates import brow_gate, eye_gate, speech_gate
from ntalker_ns.field.landmark_warp import WARP_SOFTNESS, LandmarkWarp
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.warp import landmark_displacement
from ntalker_ns.kernels.types import FaceState, Gaussians, Landmarks
from ntalker_ns.splats.lids import LidFold, fold

WIDTHS = {"means": 3, "log_scales": 3, "quaternions": 4, "opacity_logits": 1, "colours": 3}
"""Columns of the attributes of a Gaussian, in this order."""

RATES = {"means": 0.02, "log_scales": 0.5, "quaternions": 0.2, "opacity_logits": 3.0, "colours": 0.4}
"""Attributes for one unit of their parameters: Adam's steps are equally long in all parameters."""

FAINT = 0.03
"""Opacity below which a Gaussian shows nothing."""

LIGHTS = 6
"""Numbers of the pose that colour follows."""


def training_bytes(count: int, controls: int) -> int:
    """Memory of Gaussians in training: values, gradients and Adam's two moments.

    Args:
        count: of the Gaussians.
        controls: numbers that move them.
    """
    return 4 * 4 * count * (sum(WIDTHS.values()) * (1 + controls) + 3 * LIGHTS)


class SplatConditions(NamedTuple):
    """What the Gaussians of a frame depend on."""

    controls: Float[Tensor, "frames controls"]
    """Lip shape, brow shape, closure of the eyes."""
    light: Float[Tensor, "frames lights"]
    """Standardised numbers of the pose."""


class HeadGaussians(nn.Module):
    """A fixed number of Gaussians in the head's space."""

    rates: Tensor
    lids: Tensor

    def __init__(self, count: int, rig: Rig, ops: Ops) -> None:
        """
        Args:
            count: of the Gaussians.
            rig: of the person.
            ops: compute gates.
        """
        super().__init__()
        self.ops = ops
        columns = sum(WIDTHS.values())
        self.num_lips, self.num_brows = len(rig.lip_basis), len(rig.brow_basis)
        self.base = nn.Parameter(torch.zeros(count, columns))
        self.deltas = nn.Parameter(torch.zeros(self.num_lips + self.num_brows + 1, count, columns))
        self.shading = nn.Parameter(torch.zeros(LIGHTS, count, 3))
        rates = torch.cat([torch.full((width,), RATES[name]) for name, width in WIDTHS.items()])
        self.register_buffer("rates", rates, persistent=False)
        self.speech_gate, self.brow_gate, self.eye_gate = (
            make(rig.keypoints) for make in (speech_gate, brow_gate, eye_gate)
        )
        softness = WARP_SOFTNESS * rig.eye_distance
        self.lip_warp = LandmarkWarp(rig.lip_points, rig.lip_basis, softness)
        self.brow_warp = LandmarkWarp(rig.brow_points, rig.brow_basis, softness)
        # Not saved: they come with the driving sequence.
        self.register_buffer("lids", torch.from_numpy(rig.lids), persistent=False)

    def __len__(self) -> int:
        return len(self.base)

    @torch.no_grad()
    def place(self, attributes: Float[Tensor, "placed columns"], where: Int[Tensor, "placed"]) -> None:
        """Sets the attributes at rest; lips and brows begin with the motion of the landmarks around them.

        Args:
            attributes: in the order of `WIDTHS`.
            where: which Gaussians are placed.
        """
        self.base[where] = attributes / self.rates
        self.shading[:, where] = 0.0
        self.deltas[:, where] = 0.0
        positions = attributes[:, :3]
        warps = (self.lip_warp, self.brow_warp)
        motions = [(warp, motion) for warp in warps for motion in warp.basis]
        for delta, (warp, motion) in zip(self.deltas, motions, strict=False):
            marks = Landmarks(warp.positions[None], motion[None], warp.softness)
            delta[where, :3] = landmark_displacement(positions, marks, [len(positions)]) / self.rates[:3]

    def transparent(self) -> Bool[Tensor, "n"]:
        """Which Gaussians show nothing."""
        return torch.sigmoid(self.base[:, 10] * self.rates[10]) < FAINT

    def face(self, lips: Tensor, brows: Tensor, openness: Tensor) -> FaceState:
        """The state of the face in some frames, for `inverse_warp`.

        Args:
            lips: (frames, lip_dim).
            brows: (frames, brow_dim).
            openness: of the eyes, (frames,).
        """
        return FaceState(self.brow_gate, self.eye_gate, self.lip_warp(lips), self.brow_warp(brows), self.lids, openness)

    @torch.no_grad()
    def motion(self) -> "Motion":
        """Where what may move is: a function of the positions at rest, for any number of frames."""
        positions = self.base[:, :3] * self.rates[:3]
        speech, brows, eyes = (
            self.ops.gate(positions, gate) for gate in (self.speech_gate, self.brow_gate, self.eye_gate)
        )
        gates = [speech.expand(-1, self.num_lips), brows.expand(-1, self.num_brows), eyes]
        return Motion(torch.cat(gates, dim=1).T.contiguous(), LidFold.at(positions, eyes.squeeze(-1), self.lids))

    def forward(
        self, controls: Float[Tensor, "controls"], light: Float[Tensor, "lights"], motion: "Motion"
    ) -> Gaussians:
        """The Gaussians of one frame.

        Args:
            controls: see `SplatConditions`.
            light: see `SplatConditions`.
            motion: of `motion`.
        """
        raw = Blend.apply(self.base, self.deltas, motion.gates * controls[:, None])
        means, log_scales, quaternions, opacity, colours = (raw * self.rates).split(list(WIDTHS.values()), dim=1)
        shade = torch.tensordot(light, self.shading, dims=1) * RATES["colours"]
        still = Gaussians(means, log_scales, quaternions, opacity.squeeze(1), colours + shade)
        return fold(still, motion.lids, controls[-1])


class Motion(NamedTuple):
    """What may move of a head's Gaussians."""

    gates: Float[Tensor, "controls n"]
    lids: LidFold


class Blend(torch.autograd.Function):
    """base + sum_k coefficients_k deltas_k, without a copy of the deltas; no gradient for the coefficients.

    Shapes: base (n, columns), deltas (k, n, columns), coefficients (k, n).
    """

    @staticmethod
    def forward(ctx: Any, base: Tensor, deltas: Tensor, coefficients: Tensor) -> Tensor:
        ctx.save_for_backward(coefficients)
        total = base.clone()
        for delta, coefficient in zip(deltas, coefficients, strict=True):
            total.addcmul_(delta, coefficient[:, None])
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,), (coefficients,) = grads, ctx.saved_tensors
        return grad, coefficients[:, :, None] * grad, None


SPARE = {"log_scales": -5.0, "quaternions": (1.0, 0.0, 0.0, 0.0), "opacity_logits": -10.0}
"""Attributes of Gaussians that show nothing; others are 0."""


def with_spare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `HeadGaussians`, with Gaussians that show nothing up to a larger number.

    Args:
        found: tensors of a model by name.
        wanted: tensors of a model with more Gaussians.

    Returns:
        Those of the found ones that are to be larger.
    """
    columns = [torch.tensor(SPARE.get(name, 0.0)).expand(width) / RATES[name] for name, width in WIDTHS.items()]
    larger = {}
    for name, axis in (("base", 0), ("deltas", 1), ("shading", 1)):
        name = f"head.gaussians.{name}"
        if name in found and name in wanted and wanted[name].shape[axis] > (count := found[name].shape[axis]):
            larger[name] = torch.zeros_like(wanted[name], device=found[name].device)
            if axis == 0:
                larger[name][:] = torch.cat(columns)
            larger[name].narrow(axis, 0, count).copy_(found[name])
    return larger
