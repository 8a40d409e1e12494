"""A head that is a radiance field, marched along rays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn
from torch.optim import Optimizer

from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.data.training_rays import TrainingRays
from ntalker_ns.face.rig import Rig
from ntalker_ns.face.shell import MOUTH, FaceShell
from ntalker_ns.field.pose_refinement import CachedPoseMap, PoseRefinement
from ntalker_ns.field.talker_field import FrameConditions, TalkerField, TalkerFieldConfig
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import compact
from ntalker_ns.kernels.types import FaceState, Gate
from ntalker_ns.rendering.depth_prior import OPAQUE, stratified_rays
from ntalker_ns.rendering.head import FaceInputs, Head
from ntalker_ns.rendering.head_renderer import HeadRenderer
from ntalker_ns.rendering.losses import (
    FaceSurface,
    LossWeights,
    OcclusionPoints,
    StepOutputs,
    field_losses,
    occlusion_prior,
)
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.rays import camera_rays
from ntalker_ns.rendering.static_cache import StaticCameraCache, lens
from ntalker_ns.rendering.visual_hull import carve, open_outline
from ntalker_ns.speech.audio_network import AudioNetwork
from ntalker_ns.training.transfers import to_device
from ntalker_ns.training.versioned import Snapshot

CPU_CHUNK = 1 << 15
"""Most rays of a picture that a CPU renders at a time, so that their data stay in its caches."""


@dataclass
class FieldHeadConfig(LossWeights):
    """Sizes and sampling of a radiance field."""

    field: TalkerFieldConfig = field(default_factory=TalkerFieldConfig)
    """Sizes of the radiance field."""
    speech: Literal["regression", "network"] = "regression"
    """Audio model of the mouth: regression (predicts lip shapes, from seconds of speech) or network
    (RAD-NeRF's audio network, trained with the field, as in the paper; it has no lip shapes)."""
    coarse_fraction: float = 0.0
    """Fraction of the training, 0 to 1, over which the finer half of the grid levels is enabled, level by level:
    gradients of coarse pictures correct poses and shapes that are further off. 0: all levels from the start."""
    occupancy_resolution: int = 128
    """Cells along an edge of the occupancy grid."""
    occupancy_interval: int = 16
    """Steps between two updates of the occupancy grid."""
    occupancy_cells: int = 65536
    """Cells whose density is queried in an update."""
    occupancy_weight: float = 0.01
    """Smallest compositing weight, over the samples of recent training rays, of a cell that stays open."""
    occupancy_opacity: float = 0.01
    """Smallest opacity of one step through a cell that stays open."""
    step_size: float = 0.0125
    """Distance between the samples of a ray in world units; the box is 2 wide."""
    max_samples: int = 32
    """Most samples of a ray, after skipping empty cells."""
    occlusion_depth: float = 0.12
    """Depth of the occlusion prior behind the surface, world units."""
    occlusion_fraction: float = 0.1
    """Fraction of the rays, 0 to 1, that get a point of the occlusion prior."""
    occlusion_interval: int = 4
    """The prior is evaluated on average every N steps, on N times as many points (launch cost dominates)."""
    eval_num_rays_per_chunk: int = 1 << 18
    """Most rays of a picture rendered at a time: a few GB on a GPU; a CPU renders fewer."""


class FieldHead(Head):
    """A radiance field, its occupancy grid and the frames' appearance codes."""

    _mouth: Tensor

    def __init__(self, config: FieldHeadConfig, rig: Rig, clip_frames: int, ops: Ops, audio_channels: int) -> None:
        """
        Args:
            config: sizes and weights.
            rig: of the person.
            clip_frames: number of the clip's frames.
            ops: computes it.
            audio_channels: of the audio features.
        """
        super().__init__()
        self.config, self.rig, self.ops = config, rig, ops
        self.field = TalkerField(config.field, rig, ops, audio_channels if self.needs_windows else None)
        self.occupancy = OccupancyGrid(ops, config.occupancy_resolution, min_weight=config.occupancy_weight)
        self.renderer = HeadRenderer(ops, self.field, self.occupancy, config.step_size, config.max_samples)
        self.appearance = nn.Embedding(clip_frames, max(config.field.appearance_dim, 1))
        nn.init.zeros_(self.appearance.weight)
        self._appearances = CachedPoseMap()
        self.mouth_radius = MOUTH * rig.eye_distance
        self.register_buffer("_mouth", torch.tensor(rig.keypoints["mouth"]).float(), persistent=False)
        self.static_camera = StaticCameraCache()
        self.set_face(None)

    @property
    def interval(self) -> int:
        """Of updates of the occupancy grid."""
        return self.config.occupancy_interval

    @property
    def step_kind(self) -> int:
        """The number of grid levels in use."""
        return self.field.active_levels

    @property
    def needs_windows(self) -> bool:
        """Whether RAD-NeRF's audio network drives the mouth."""
        return self.config.speech == "network"

    @property
    def fitted(self) -> bool:
        """Whether the occupancy grid was carved."""
        return bool(self.occupancy.carved)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Hash tables, networks and codes."""
        return {
            "grids": self.field.grid_parameters(),
            "networks": self.field.network_parameters(),
            "codes": list(self.appearance.parameters()),
        }

    def set_face(self, shell: FaceShell | None) -> None:
        """Sets bounds of the head's depth, for training.

        Args:
            shell: at the occupancy grid's resolution; None: unknown.
        """
        self.shell = shell
        self._surface = None
        if shell is not None:
            depth = torch.from_numpy(shell.surface).float().to(self._mouth.device)
            self._surface = FaceSurface(depth, shell.unit, self.ops)

    def fit_to_clip(self, dataset: Any) -> None:
        """Closes cells outside the head."""
        carve(self.occupancy, dataset, self.shell, self.rig.keypoints, self.config.occlusion_depth)

    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """Opens cells: those of the shell that all edited frames show as head."""
        open_outline(self.occupancy, views, self.shell, self.rig.keypoints)

    def fit_speech(
        self,
        windows: Float[Tensor, "frames 16 channels"],
        lip_shapes: Float[Tensor, "frames lip_dim"],
        trained: Int[Tensor, "trained"],
    ) -> None:
        """Pretrains the audio network: its codes then determine the predicted lip shapes."""
        assert isinstance(self.field.speech_net, AudioNetwork)
        self.field.speech_net.start_from(windows, lip_shapes, trained)

    def before_step(self, progress: float) -> None:
        """Enables grid levels."""
        self.field.show_levels(progress / self.config.coarse_fraction if self.config.coarse_fraction else 1.0)

    def conditions(self, face: FaceInputs, poses: PoseRefinement) -> FrameConditions:
        """The field's conditions. Away from training frames the appearance follows from the pose."""
        of_clip = face.seen_from.ndim == 1
        appearance = self.appearance(face.seen_from) if of_clip else self._appearance_by_pose(face.seen_from, poses)
        speech, lips = face.lip_shapes, face.lip_shapes
        if self.needs_windows:
            assert face.windows is not None
            # The paper's field warps nothing: the audio coordinate alone moves the mouth.
            speech, lips = face.windows, torch.zeros_like(face.lip_shapes)
        code = self.field.speech_code(speech)
        return FrameConditions(lips, code, face.brow_shapes, face.eye_openness, appearance)

    @torch.no_grad()
    def _appearance_by_pose(
        self, cameras: Float[Tensor, "frames 3 4"], poses: PoseRefinement
    ) -> Float[Tensor, "frames appearance"]:
        """Appearance codes of any cameras.

        The light stays fixed while the head turns: most of a training frame's code follows from its pose, and the
        residual is specific to that frame.
        """
        return to_device(self._appearances.at(poses, self.appearance.weight, cameras), self._mouth.device)

    def step(
        self,
        rays: TrainingRays,
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        behind: Float[Tensor, "rays 3"],
    ) -> StepOutputs:
        """Renders the head along rays, over the colours behind it."""
        counts = rays.counts
        if len(counts) == 1 and not torch.is_grad_enabled():
            outputs = self.renderer.picture(rays, conditions, corrections)
        else:
            capacity = rays.step.sizes.capacity
            outputs = self.renderer.rays(rays, counts, conditions, corrections, self.training, capacity)
        step = StepOutputs(**vars(outputs), rgb=outputs.head + (1.0 - outputs.opacity) * behind)
        if self.training and rays.step.sizes.occlusion:
            step.occlusion = self.occlusion_points(rays, conditions, corrections, step)
        return step

    def occlusion_points(
        self,
        rays: TrainingRays,
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        step: StepOutputs,
    ) -> OcclusionPoints:
        """The field at random points behind the surface, except behind the lips: there the mouth is visible."""
        fraction = min(self.config.occlusion_fraction * self.config.occlusion_interval, 1.0)
        drawn, counts = stratified_rays(rays.counts, fraction, self._mouth.device)
        depth, opacity = step.depth.detach()[drawn], step.opacity.detach()[drawn]
        depth = depth + self.config.occlusion_depth * torch.rand_like(depth)
        to_mouth = rays.origins[drawn] + depth * rays.directions[drawn] - self._mouth
        hidden = (opacity.squeeze(-1) > OPAQUE) & (to_mouth.norm(dim=-1) > self.mouth_radius)
        subset = compact(hidden, counts)
        indices, depth, opacity = (subset.of(each) for each in (drawn, depth.squeeze(-1), opacity))
        points = self.renderer.behind(rays, subset.counts, conditions, corrections, indices, depth)
        target = step.head.detach()[indices] / opacity.clamp(min=OPAQUE)
        return OcclusionPoints(points.density, points.rgb, target, subset)

    def note_step(self, step: StepOutputs) -> None:
        """Records in the occupancy grid which samples of a training step contributed to their pixels."""
        if step.samples is not None:
            self.occupancy.mark_visible(step.samples.positions, step.samples.weights.detach())

    @torch.no_grad()
    def adapt(self, conditions: FrameConditions, optimizers: Mapping[str, Optimizer]) -> None:
        """Opens and closes cells of the occupancy grid by the field's density in one frame."""

        def density(positions: Tensor) -> Tensor:
            return self.field.density(positions, replace(conditions, counts=[len(positions)]))

        threshold = -float(np.log1p(-self.config.occupancy_opacity)) / self.config.step_size
        depth = self.config.occlusion_depth if self.config.occlusion_weight else 0.0
        self.occupancy.update(density, self.config.occupancy_cells, threshold, depth)

    @torch.no_grad()
    def picture(
        self, camera: Cameras, conditions: FrameConditions, correction: Float[Tensor, "1 6"] | None
    ) -> dict[str, Tensor]:
        """The head's layer of a picture, ray by ray; `audio_motion` too."""
        rays = camera_rays(camera, self._mouth.device)
        shape, rays = (*rays.origins.shape[:2], -1), rays.flatten()
        at_once = self.config.eval_num_rays_per_chunk
        if self._mouth.device.type == "cpu":
            at_once = min(at_once, CPU_CHUNK)

        def render(chosen: Tensor, marks: bool) -> dict[str, Tensor]:
            # Slices where all rays are rendered: indexing copies.
            spans = [slice(first, first + at_once) for first in range(0, len(chosen), at_once)] or [slice(0, 0)]
            picked = spans if len(chosen) == len(rays) else [chosen[span] for span in spans]
            parts = [self.renderer.picture(rays[each], conditions, correction, marks).picture() for each in picked]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        written = Snapshot((*self.parameters(), *self.buffers()))
        seen = (camera.camera_to_worlds, correction)
        numbers = [None if each is None else tuple(each.flatten().tolist()) for each in seen]
        key = (lens(camera), *numbers, written, self.field.picture_type)
        outputs = self.static_camera.render(key, len(rays), self._mouth.device, render)
        return {name: values.view(shape) for name, values in outputs.items()}

    def face(self, conditions: FrameConditions) -> tuple[Gate, FaceState]:
        """The field's gate of speech, and its landmarks and lids."""
        return self.field.speech_gate, self.field.face(conditions)

    def empty_depth(self, camera: Cameras) -> Float[Tensor, "height width 1"]:
        """Where rays leave the box."""
        rays = camera_rays(camera, self._mouth.device)
        flat = rays.flatten()
        return self.ops.intersect_box(flat.origins, flat.directions)[1].view(*rays.origins.shape[:2], 1)

    def losses(self, step: StepOutputs, batch: Mapping[str, Any]) -> dict[str, Float[Tensor, ""]]:
        """See `field_losses`."""
        return field_losses(step, batch, self.config, self._surface) | self.regularizers(step)

    def regularizers(self, step: StepOutputs) -> dict[str, Float[Tensor, ""]]:
        """The occlusion prior."""
        if step.occlusion is None:
            return {}
        prior = occlusion_prior(step.occlusion, self.config.step_size, len(step.rgb))
        return {"occlusion": self.config.occlusion_weight * prior}
