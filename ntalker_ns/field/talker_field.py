"""The audio-spatial radiance field: (position, direction; audio, eyes, appearance) -> (density, colour)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntalker_ns.face.rig import Rig
from ntalker_ns.field.gates import brow_gate, eye_gate, speech_gate
from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.field.landmark_warp import WARP_SOFTNESS, LandmarkWarp
from ntalker_ns.field.mlp import FrameMLP, at_least_float32, truncated_exp
from ntalker_ns.kernels.ops import FusedField, Ops
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, compact
from ntalker_ns.kernels.types import FaceState, FieldOutputs, FieldParts
from ntalker_ns.speech.audio_network import AudioNetwork

LID_LEVELS = 0.6
"""Fraction of the grid levels that closed lids use: a clip shows them in too few frames to train fine levels, which
would turn to grain."""


@dataclass
class TalkerFieldConfig:
    """Sizes of the field (the defaults are RAD-NeRF's)."""

    num_levels: int = 16
    """Levels of both hash grids, two features each."""
    base_resolution: int = 16
    """Cells along an edge of the coarsest level."""
    max_resolution: int = 2048
    """Cells along an edge of the finest level; the box is two head sizes wide."""
    log2_hashmap_size: int = 16
    """Base-2 logarithm of the entries of a hash table level."""
    speech_code_dim: int = 64
    """Channels of a frame's speech code."""
    hidden_dim: int = 64
    """Channels of the hidden layers."""
    hidden_layers: int = 2
    """Hidden layers of the networks of the audio coordinate and of density; colour has one fewer, at least one."""
    geometry_dim: int = 64
    """Channels from the density to the colour network, beside the density's logarithm."""
    direction_levels: int = 4
    """Spherical-harmonics levels of the viewing direction; 0: colour does not depend on it."""
    appearance_dim: int = 4
    """Channels of the per-frame appearance code; 0: none."""


@dataclass
class FrameConditions:
    """What all samples of a frame share; row f belongs to frame f of a ragged batch."""

    lip_shapes: Float[Tensor, "frames lip_dim"]
    """Shape of lips and jaw, measured or predicted."""
    speech_code: Float[Tensor, "frames code"]
    """Its encoding for the networks, see `TalkerField.speech_code`."""
    brow_shapes: Float[Tensor, "frames brow_dim"]
    eye_openness: Float[Tensor, "frames 1"]
    """In [0, 1]."""
    appearance: Float[Tensor, "frames appearance"]
    counts: list[int] = field(default_factory=list)
    """Samples of each frame."""


QueryField = Callable[[Tensor, RayInputs | None], FieldOutputs]
"""From positions (samples, 3) and views, see `TalkerField.views`."""


class TalkerField(nn.Module):
    """RAD-NeRF's decomposition: a 3D grid for space, a 2D grid for what speech does there.

    The audio around a frame gives a shape of lips and jaw, and that the frame's speech code. Positions are mapped to
    canonical space, the mean face with open eyes (`ntalker_ns.kernels.reference.warp`). The canonical position and the
    code give a 2D audio coordinate, which looks up a second grid; both features, the code and the eye openness give
    density, and with the viewing direction and the appearance code colour. Speech, brows and blinks are gated in space
    (`ntalker_ns.field.gates`).
    """

    lids: Float[Tensor, "2 columns 4"]

    def __init__(self, config: TalkerFieldConfig, rig: Rig, ops: Ops, audio_channels: int | None = None) -> None:
        """
        Args:
            config: sizes.
            rig: of the person.
            ops: computes it.
            audio_channels: of the audio features, if speech codes are computed from them by a network that is trained
                with the field; None: from lip shapes.
        """
        super().__init__()
        self.config, self.ops = config, ops
        self.active_levels = config.num_levels
        self.picture_type: torch.dtype | None = None
        """Precision of the networks' products in pictures; None: float16 on CUDA, float32 elsewhere."""
        self.speech_gate = speech_gate(rig.keypoints)
        self.eye_gate = eye_gate(rig.keypoints)
        self.brow_gate = brow_gate(rig.keypoints)
        softness = WARP_SOFTNESS * rig.eye_distance
        self.lip_warp = LandmarkWarp(rig.lip_points, rig.lip_basis, softness)
        self.brow_warp = LandmarkWarp(rig.brow_points, rig.brow_basis, softness)
        # Not saved: they come with the driving sequence.
        self.register_buffer("lids", torch.from_numpy(rig.lids), persistent=False)
        width, code = config.hidden_dim, config.speech_code_dim
        self.speech_net = (
            nn.Sequential(nn.Linear(len(rig.lip_basis), width), nn.ReLU(), nn.Linear(width, code))
            if audio_channels is None
            else AudioNetwork(audio_channels, code)
        )

        def grid(dims: int) -> HashGrid:
            return HashGrid(
                ops,
                dims=dims,
                num_levels=config.num_levels,
                features_per_level=2,
                base_resolution=config.base_resolution,
                max_resolution=config.max_resolution,
                log2_hashmap_size=config.log2_hashmap_size,
            )

        self.space_grid, self.audio_grid = grid(3), grid(2)
        features = 2 * config.num_levels
        layers = config.hidden_layers + 1
        directions = config.direction_levels**2

        def network(sample_dim: int, frame_dim: int, layers: int, out_dim: int) -> FrameMLP:
            return FrameMLP(ops, sample_dim, frame_dim, width, layers, out_dim)

        self.audio_coordinate_net = network(features, code, layers, out_dim=2)
        self.density_net = network(2 * features + 1, code, layers, out_dim=1 + config.geometry_dim)
        self.color_net = network(
            directions + 1 + config.geometry_dim, config.appearance_dim, max(layers - 1, 2), out_dim=3
        )

    def show_levels(self, progress: float) -> None:
        """Uses the coarser half of the grid levels and a fraction of the finer half.

        Args:
            progress: 0 for the coarser half only, 1 and more for all levels.
        """
        coarse = self.config.num_levels // 2
        finer = round(min(max(progress, 0.0), 1.0) * (self.config.num_levels - coarse))
        self.active_levels = coarse + finer

    def grid_parameters(self) -> list[nn.Parameter]:
        """The hash tables, which have their own learning rate."""
        return [*self.space_grid.parameters(), *self.audio_grid.parameters()]

    def network_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        tables = {id(parameter) for parameter in self.grid_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def speech_code(
        self, speech: Float[Tensor, "frames lip_dim"] | Float[Tensor, "frames neighbours 16 channels"]
    ) -> Float[Tensor, "frames code"]:
        """Encodes shapes of lips and jaw, measured or predicted; or audio features, where the field takes these."""
        return self.speech_net(speech)

    @torch.no_grad()
    def moves(self, positions: Float[Tensor, "samples 3"]) -> Bool[Tensor, "samples"]:
        """Where speech, blinks or brows may act.

        Args:
            positions: world.
        """
        gates = (self.speech_gate, self.eye_gate, self.brow_gate)
        return torch.cat([self.ops.gate(positions, gate) > 0 for gate in gates], dim=1).any(dim=1)

    def _geometry(
        self, positions: Tensor, frames: FrameConditions
    ) -> tuple[Float[Tensor, "samples outputs"], Float[Tensor, "samples 1"]]:
        """Outputs of the density network, the density's logarithm first, and the length of the audio coordinate."""
        gate = self.ops.gate(positions, self.speech_gate)
        spoken = compact(gate.detach().squeeze(-1) > 0, frames.counts)
        gated = spoken.of(gate)
        # Half precision is for the networks: it would round positions to cells of the grid.
        with torch.autocast(positions.device.type, enabled=False):
            shift, closed = self.ops.inverse_warp(positions, gate, frames.counts, self.face(frames))
            canonical = torch.add(shift.add_(1.0).mul_(0.5), positions, alpha=0.5)
        space = self._without_details(self.space_grid(canonical, self.active_levels), closed, frames.counts)
        # Where the gate is zero the audio coordinate is the origin, so that its network is evaluated only inside.
        raw = self.audio_coordinate_net(spoken.of(space), frames.speech_code, spoken.counts)
        coordinate = torch.tanh(raw) * gated
        motion = spoken.scatter(coordinate.detach().norm(dim=-1, keepdim=True).to(space))
        # The origin's features, which all others have, in the same look-up: each has a gradient as large as the table.
        origin = coordinate.new_zeros(1, 2)
        places = torch.cat([coordinate, origin]).add_(1.0).mul_(0.5)
        special, common = self.audio_grid(places).split([len(coordinate), 1])
        audio = SparseInputs(values=special, special=spoken, common=common, last=closed)
        return self.density_net(space, frames.speech_code, frames.counts, gate, audio), motion

    @torch.no_grad()
    def face(self, frames: FrameConditions) -> FaceState:
        """The frames' faces."""
        return FaceState(
            brow_gate=self.brow_gate,
            eye_gate=self.eye_gate,
            lips=self.lip_warp(frames.lip_shapes),
            brows=self.brow_warp(frames.brow_shapes),
            lids=self.lids,
            openness=frames.eye_openness.view(-1),
        )

    @property
    def _lid_features(self) -> int:
        """Spatial features that closed lids use, the first ones."""
        return 2 * round(LID_LEVELS * self.config.num_levels)

    def _without_details(self, space: Tensor, closed: Tensor, counts: list[int]) -> Float[Tensor, "samples features"]:
        """Spatial features whose finer levels fade where eyes close; written in place."""
        fading = compact(closed.squeeze(-1) > 0, counts)
        factors = 1.0 - fading.of(closed)
        if not len(factors):
            return space
        return _Fade.apply(space, fading.index, factors, self._lid_features)  # type: ignore[no-any-return]

    def density(self, positions: Float[Tensor, "samples 3"], frames: FrameConditions) -> Float[Tensor, "samples 1"]:
        """Density alone, per world unit, for the occupancy grid."""
        if (fused := self._fused(positions, frames)) is not None:
            return fused(positions, None, frames.counts).density
        return truncated_exp(self._geometry(positions, frames)[0][:, :1])

    def forward(
        self,
        positions: Float[Tensor, "samples 3"],
        views: RayInputs | None,
        frames: FrameConditions,
    ) -> FieldOutputs:
        """Density, colour and audio motion of samples grouped by frame.

        Args:
            positions: world; clamped to the box [-1, 1]^3.
            views: encoded viewing directions, see `views`.
            frames: of the samples.
        """
        if (fused := self._fused(positions, frames)) is not None:
            return fused(positions, views, frames.counts)
        inputs, motion = self._geometry(positions, frames)
        density = truncated_exp(inputs[:, :1])
        colour = self.color_net(inputs, self._light(frames), frames.counts, shared=views)
        rgb = torch.sigmoid(at_least_float32(colour))
        return FieldOutputs(density=density, rgb=rgb, audio_motion=motion)

    def _fused(self, positions: Tensor, frames: FrameConditions) -> FusedField | None:
        """The field at some frames in one kernel, where the backend has one: in float32, without autocast."""
        dtypes = {positions.dtype, self.space_grid.table.dtype}
        autocast = torch.is_autocast_enabled(positions.device.type)
        if self.ops.fused_field is None or autocast or dtypes != {torch.float32}:
            return None
        networks = (self.audio_coordinate_net, self.density_net, self.color_net)
        parts = FieldParts(
            speech_gate=self.speech_gate,
            face=self.face(frames),
            lid_features=self._lid_features,
            space_grid=self.space_grid.parts(self.active_levels),
            audio_grid=self.audio_grid.parts(),
            networks=(networks[0].parts(), networks[1].parts(), networks[2].parts()),
            frames=(frames.speech_code, frames.speech_code, self._light(frames)),
            direction_channels=self.config.direction_levels**2,
        )
        return self.ops.fused_field(parts)

    def views(self, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays components"] | None:
        """Viewing directions as spherical harmonics; None where colour does not depend on them.

        Args:
            directions: unit.
        """
        levels = self.config.direction_levels
        return self.ops.spherical_harmonics(levels, directions) if levels else None

    def _light(self, frames: FrameConditions) -> Tensor | None:
        return frames.appearance if self.config.appearance_dim else None

    @torch.no_grad()
    def at_frame(self, frames: FrameConditions) -> QueryField:
        """The field at one frame, without gradients: `forward`'s numbers, prepared once for many calls.

        Networks multiply in `picture_type`, whatever autocast is set to; all else stays in float32.

        Args:
            frames: a single one; its counts are not used.
        """
        table = self.space_grid.table
        dtype = self.picture_type or (torch.float16 if table.device.type == "cuda" else torch.float32)
        fused = self._fused(table, frames) if dtype == torch.float32 else None
        if fused is None:
            return partial(self._by_operations, frames, dtype)
        field = fused

        @torch.no_grad()
        def query(positions: Tensor, views: RayInputs | None) -> FieldOutputs:
            return field(positions, views, [len(positions)])

        return query

    @torch.no_grad()
    def _by_operations(
        self, frames: FrameConditions, dtype: torch.dtype, positions: Tensor, views: RayInputs | None
    ) -> FieldOutputs:
        """`forward` at one frame, with the networks' products in a type."""
        with torch.autocast(positions.device.type, dtype, enabled=dtype != torch.float32):
            return self(positions, views, replace(frames, counts=[len(positions)]))


class _Fade(torch.autograd.Function):
    """Scales the last features of some samples, of all where there is no index, in place; autograd would copy all
    gradients four times."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor | None, factors: Tensor, kept: int) -> Tensor:
        ctx.save_for_backward(index, factors)
        ctx.kept = kept
        features[slice(None) if index is None else index, kept:] *= factors
        ctx.mark_dirty(features)
        return features

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, factors = ctx.saved_tensors
        gradient = grads[0].clone()
        gradient[slice(None) if index is None else index, ctx.kept :] *= factors
        return gradient, None, None, None
