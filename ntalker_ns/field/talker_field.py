"""The audio-spatial radiance field: (position, direction; audio, eyes, appearance) -> (density, colour)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor, nn

from ntalker_ns.face.rig import Rig
from ntalker_ns.field.gates import brow_gate, eye_gate, speech_gate
from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.field.lid_fold import LidFold
from ntalker_ns.field.mlp import FrameMLP, at_least_float32, truncated_exp
from ntalker_ns.field.ragged import PerRay, SparseInputs, choose, expand_per_frame
from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.face import Face

if TYPE_CHECKING:
    from ntalker_ns.kernels.numba.field import NumbaField

WARP_SOFTNESS = 0.05
"""Softness of the warps of lips and brows over the distance between the eyes: about the distance between landmarks of a
lip."""


LID_LEVELS = 0.6
"""Share of the grid levels that closed lids are painted with: a clip shows them in a handful of frames, too few to
teach fine levels, which would make grain of them."""


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
    """Channels that the density network hands to the colour network beside the density's logarithm."""
    direction_levels: int = 4
    """Spherical-harmonics levels of the viewing direction; 0: colour does not depend on it."""
    appearance_dim: int = 4
    """Channels of the per-frame appearance code; 0: none."""
    backend: Literal["auto", "torch", "numba", "triton", "tcnn"] = "auto"
    """Implementation of the hash grids; auto takes the fastest that runs on the device. torch is for the networks too,
    layer by layer; with every other choice they run in one kernel: numba's on the CPU; on CUDA in half precision
    Triton's, or with tcnn tiny-cuda-nn's where fewer than 128 hidden channels leave room in it."""


@dataclass
class FrameConditions:
    """What all samples of a frame share; row f belongs to the f-th run of samples."""

    lip_shapes: Float[Tensor, "frames lip_dim"]
    """What lips and jaw do, measured or heard."""
    speech_code: Float[Tensor, "frames code"]
    """The same as the networks are told it, see `TalkerField.speech_code`."""
    brow_shapes: Float[Tensor, "frames brow_dim"]
    """What the brows do."""
    eye_openness: Float[Tensor, "frames 1"]
    """In [0, 1]."""
    appearance: Float[Tensor, "frames appearance"]
    counts: list[int] = field(default_factory=list)
    """Samples of each frame."""


@dataclass
class FieldOutputs:
    """What the field says of each sample."""

    density: Float[Tensor, "samples 1"]
    rgb: Float[Tensor, "samples 3"]
    audio_motion: Float[Tensor, "samples 1"]
    """Length of the gated audio coordinate: how much speech acts here; no gradient."""


AskFrame = Callable[[Tensor, PerRay | None], FieldOutputs]
"""From positions (samples, 3) and views, see `TalkerField.views`."""


class TalkerField(nn.Module):
    """RAD-NeRF's decomposition: a 3D grid for space, a 2D grid for what speech does there.

    The audio around a frame is heard as a shape of lips and jaw, which gives the frame's speech code. Positions are
    brought back to where they are in the mean face with open eyes (`LandmarkWarp`, `LidFold`). Each settled position
    and the code give a 2D audio coordinate, which looks up a second grid; both features, the code and the eye openness
    give density, and with the viewing direction and the appearance code colour. Speech, brows and blinks are gated in
    space (`ntalker_ns.field.gates`).
    """

    def __init__(self, config: TalkerFieldConfig, rig: Rig) -> None:
        """
        Args:
            config: sizes.
            rig: of the person.
        """
        super().__init__()
        self.config = config
        self.active_levels = config.num_levels
        self.picture_type: torch.dtype | None = None
        """In which networks multiply for pictures; None: float16 on CUDA, float32 elsewhere."""
        self.speech_gate = speech_gate(rig.keypoints)
        self.eye_gate = eye_gate(rig.keypoints)
        self.brow_gate = brow_gate(rig.keypoints)
        softness = WARP_SOFTNESS * rig.eye_distance
        self.lip_warp = LandmarkWarp(rig.lip_points, rig.lip_basis, softness=softness)
        self.brow_warp = LandmarkWarp(rig.brow_points, rig.brow_basis, softness=softness)
        self.lid_fold = LidFold(rig.lids)
        lip_dim = len(rig.lip_basis)
        self.speech_net = nn.Sequential(
            nn.Linear(lip_dim, config.hidden_dim), nn.ReLU(), nn.Linear(config.hidden_dim, config.speech_code_dim)
        )

        def grid(dims: int) -> HashGrid:
            return HashGrid(
                dims=dims,
                num_levels=config.num_levels,
                features_per_level=2,
                base_resolution=config.base_resolution,
                max_resolution=config.max_resolution,
                log2_hashmap_size=config.log2_hashmap_size,
                backend=config.backend,
            )

        self.space_grid, self.audio_grid = grid(3), grid(2)
        features = 2 * config.num_levels
        width = config.hidden_dim
        code, layers = config.speech_code_dim, config.hidden_layers + 1
        directions = config.direction_levels**2

        def network(sample_dim: int, frame_dim: int, layers: int, out_dim: int) -> FrameMLP:
            return FrameMLP(sample_dim, frame_dim, width, layers, out_dim, config.backend)

        self.audio_coordinate_net = network(features, code, layers, out_dim=2)
        self.density_net = network(2 * features + 1, code, layers, out_dim=1 + config.geometry_dim)
        self.color_net = network(
            directions + 1 + config.geometry_dim, config.appearance_dim, max(layers - 1, 2), out_dim=3
        )

    def show_levels(self, progress: float) -> None:
        """Uses the coarser half of the grid levels, and of the finer half as many as training has come to.

        Args:
            progress: 0 for the coarser half only, 1 and more for all levels.
        """
        coarse = self.config.num_levels // 2
        finer = round(min(max(progress, 0.0), 1.0) * (self.config.num_levels - coarse))
        self.active_levels = coarse + finer

    def grid_parameters(self) -> list[nn.Parameter]:
        """The hash tables, which learn at a rate of their own."""
        return [*self.space_grid.parameters(), *self.audio_grid.parameters()]

    def network_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        tables = {id(parameter) for parameter in self.grid_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def speech_code(self, lip_shapes: Float[Tensor, "frames lip_dim"]) -> Float[Tensor, "frames code"]:
        """What the field is told of a shape of lips and jaw, measured or heard."""
        return self.speech_net(lip_shapes)

    @torch.no_grad()
    def moves(self, positions: Float[Tensor, "samples 3"]) -> Bool[Tensor, "samples"]:
        """Where speech, blinks or brows may act.

        Args:
            positions: world.
        """
        gates = (self.speech_gate, self.eye_gate, self.brow_gate)
        return torch.cat([gate(positions) > 0 for gate in gates], dim=1).any(dim=1)

    def _geometry(
        self, positions: Tensor, frames: FrameConditions
    ) -> tuple[Float[Tensor, "samples outputs"], Float[Tensor, "samples 1"]]:
        """What the density network says, the density's logarithm first; and how much speech acts, to be looked at."""
        gate = self.speech_gate(positions)
        spoken = choose(gate.detach().squeeze(-1) > 0, frames.counts)
        gated = spoken.of(gate)
        # Half precision is for the networks: it would round positions to cells of the grid.
        with torch.autocast(positions.device.type, enabled=False):
            shift, closed = self._calming(positions, gate, frames)
            settled = torch.add(shift.add_(1.0).mul_(0.5), positions, alpha=0.5)
        space = self._without_details(self.space_grid(settled, self.active_levels), closed, frames.counts)
        # Where the gate is zero the audio coordinate is the origin whatever is heard: the network is asked only inside.
        raw = self.audio_coordinate_net(spoken.of(space), frames.speech_code, spoken.counts)
        coordinate = torch.tanh(raw) * gated
        motion = spoken.spread(coordinate.detach().norm(dim=-1, keepdim=True).to(space))
        # The origin's features, which all others have, come behind theirs: of each look-up a gradient is a whole table.
        origin = coordinate.new_zeros(1, 2)
        places = torch.cat([coordinate, origin]).add_(1.0).mul_(0.5)
        heard, common = self.audio_grid(places).split([len(coordinate), 1])
        audio = SparseInputs(values=heard, special=spoken, common=common, last=closed)
        return self.density_net(space, frames.speech_code, frames.counts, gate, audio), motion

    @torch.no_grad()
    def _calming(
        self, positions: Tensor, speech: Tensor, frames: FrameConditions
    ) -> tuple[Float[Tensor, "samples 3"], Float[Tensor, "samples 1"]]:
        """What takes each position to its place in the mean face with open eyes, world units; how far eyes are closed
        there.

        Lips and brows are bent at the frame's own places, and lids fold where the brows then are.
        """
        backend = automatic_backend(positions.device.type)
        if backend == "numba" and positions.dtype == torch.float32:
            from ntalker_ns.kernels.numba import warp as numba_warp

            return numba_warp.calm(positions, speech, frames.counts, numba_warp.face_arrays(self._face(frames)))
        if backend == "triton" and positions.dtype == torch.float32:
            from ntalker_ns.kernels.triton import warp as triton_warp

            return triton_warp.calm(positions, speech, frames.counts, self._face(frames))
        eyes = self.eye_gate(positions)
        shift = torch.zeros_like(positions)
        bends = (
            (speech, self.lip_warp, frames.lip_shapes),
            (self.brow_gate(positions), self.brow_warp, frames.brow_shapes),
        )
        for gate, warp, shapes in bends:
            inside = choose(gate.squeeze(-1) > 0, frames.counts)
            moved = warp(inside.of(positions), shapes, inside.counts)
            shift -= inside.spread(moved * inside.of(gate))
        inside = choose(eyes.squeeze(-1) > 0, frames.counts)
        bent = inside.of(positions) + inside.of(shift)
        rise = self.lid_fold(bent, expand_per_frame(frames.eye_openness, inside.counts))
        shift[:, 2:] += inside.spread(rise[:, None] * inside.of(eyes))
        return shift, eyes * expand_per_frame(1.0 - frames.eye_openness, frames.counts)

    def _face(self, frames: FrameConditions) -> Face:
        """The frames' faces."""
        return Face(
            brow_gate=self.brow_gate,
            eye_gate=self.eye_gate,
            lips=self.lip_warp.landmarks(frames.lip_shapes),
            brows=self.brow_warp.landmarks(frames.brow_shapes),
            lids=self.lid_fold.lids,
            openness=frames.eye_openness.view(-1),
        )

    @property
    def _lid_features(self) -> int:
        """Spatial features that closed lids are painted with, the first ones."""
        return 2 * round(LID_LEVELS * self.config.num_levels)

    def _without_details(self, space: Tensor, closed: Tensor, counts: list[int]) -> Float[Tensor, "samples features"]:
        """Spatial features whose finer levels fade where eyes close; written in place."""
        fading = choose(closed.squeeze(-1) > 0, counts)
        factors = 1.0 - fading.of(closed)
        if not len(factors):
            return space
        return _Fade.apply(space, fading.index, factors, self._lid_features)  # type: ignore[no-any-return]

    def density(self, positions: Float[Tensor, "samples 3"], frames: FrameConditions) -> Float[Tensor, "samples 1"]:
        """Density alone, per world unit, for the occupancy grid."""
        if self._in_one_kernel(positions):
            return self._numba_field(frames)(positions, None, frames.counts).density
        return truncated_exp(self._geometry(positions, frames)[0][:, :1])

    def forward(
        self,
        positions: Float[Tensor, "samples 3"],
        views: PerRay | None,
        frames: FrameConditions,
    ) -> FieldOutputs:
        """Density, colour and audio motion of samples grouped by frame.

        Args:
            positions: world; outside the box [-1, 1]^3 as on its rim.
            views: see there.
            frames: what each frame's samples share.
        """
        if self._in_one_kernel(positions):
            return FieldOutputs(*self._numba_field(frames)(positions, views, frames.counts))
        inputs, motion = self._geometry(positions, frames)
        density = truncated_exp(inputs[:, :1])
        colour = self.color_net(inputs, self._light(frames), frames.counts, shared=views)
        rgb = torch.sigmoid(at_least_float32(colour))
        return FieldOutputs(density=density, rgb=rgb, audio_motion=motion)

    def _in_one_kernel(self, positions: Tensor) -> bool:
        """Whether one kernel does all: on the CPU, where nothing asks for another precision or implementation."""
        alone = self.config.backend in ("auto", "numba") and not torch.is_autocast_enabled("cpu")
        kinds = {positions.dtype, self.space_grid.table.dtype}
        return alone and positions.device.type == "cpu" and kinds == {torch.float32}

    def _numba_field(self, frames: FrameConditions) -> "NumbaField":
        """The field at some frames in one kernel each way."""
        from ntalker_ns.kernels.numba.field import NumbaField

        return NumbaField(
            self.speech_gate,
            self._face(frames),
            self._lid_features,
            (self.space_grid, self.audio_grid),
            self.active_levels,
            (self.audio_coordinate_net, self.density_net, self.color_net),
            (frames.speech_code, frames.speech_code, self._light(frames)),
            self.config.direction_levels**2,
        )

    def views(self, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays components"] | None:
        """What colour is told of viewing directions; None where it does not depend on them.

        Args:
            directions: unit.
        """
        levels = self.config.direction_levels
        return spherical_harmonics(levels, directions) if levels else None

    def _light(self, frames: FrameConditions) -> Tensor | None:
        return frames.appearance if self.config.appearance_dim else None

    @torch.no_grad()
    def at_frame(self, frames: FrameConditions) -> AskFrame:
        """The field at one frame, without gradients: `forward`'s numbers, by the fastest implementation for the device.

        Networks multiply in `picture_type`, whatever autocast has around; all else stays in float32.

        Args:
            frames: a single one; its counts are not used.
        """
        table = self.space_grid.table
        kind = self.picture_type or (torch.float16 if table.device.type == "cuda" else torch.float32)
        if kind != torch.float32 or not self._in_one_kernel(table):
            return partial(self._part_by_part, frames, kind)
        field = self._numba_field(frames)

        @torch.no_grad()
        def ask(positions: Tensor, views: PerRay | None) -> FieldOutputs:
            return FieldOutputs(*field(positions, views, [len(positions)]))

        return ask

    def _part_by_part(
        self, frames: FrameConditions, kind: torch.dtype, positions: Tensor, views: PerRay | None
    ) -> FieldOutputs:
        """`forward` at one frame, whose networks multiply in a type."""
        with torch.autocast(positions.device.type, kind, enabled=kind != torch.float32):
            return self(positions, views, replace(frames, counts=[len(positions)]))


class _Fade(torch.autograd.Function):
    """Scales the last features of some samples, of all where there is no index, in place. Autograd's own way writes all
    gradients anew four times."""

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


@torch.no_grad()
def spherical_harmonics(levels: int, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays basis"]:
    """nerfstudio's, on CUDA in one kernel; no gradient.

    Args:
        levels: 1 to 5.
        directions: unit.
    """
    if automatic_backend(directions.device.type) == "triton" and directions.dtype == torch.float32:
        from ntalker_ns.kernels.triton import harmonics as triton_harmonics

        if levels <= triton_harmonics.MOST_LEVELS:
            return triton_harmonics.spherical_harmonics(levels, directions)
    return components_from_spherical_harmonics(levels, directions)
