"""The talking head as a nerfstudio model: rays or a camera with a time in, colours out."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from ntalker_ns.audio.clock import frames_of_times
from ntalker_ns.data.clip import Clip
from ntalker_ns.data.regions import psnr, region_errors, region_masks
from ntalker_ns.data.training_rays import ClipInputs, TrainingRays
from ntalker_ns.driving.controls import controlled
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.face.shell import MOUTH, FaceShell
from ntalker_ns.field.pose_refinement import CachedPoseMap, PoseRefinement
from ntalker_ns.field.talker_field import FrameConditions, TalkerField, TalkerFieldConfig
from ntalker_ns.kernels.backend import Backend
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import compact
from ntalker_ns.rendering.depth_prior import OPAQUE, stratified_rays
from ntalker_ns.rendering.head_renderer import HeadRenderer
from ntalker_ns.rendering.losses import (
    STEP,
    FaceSurface,
    LossWeights,
    OcclusionPoints,
    Regularized,
    StepOutputs,
    base_losses,
)
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.portrait import Portrait, PortraitConfig, SurroundingsKind
from ntalker_ns.rendering.rays import camera_rays
from ntalker_ns.rendering.static_cache import StaticCameraCache, lens
from ntalker_ns.rendering.visual_hull import carve
from ntalker_ns.speech.lip_model import create_lip_model
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.training.threads import keep_freed_memory, limit_threads
from ntalker_ns.training.transfers import DeviceCopy, to_device
from ntalker_ns.training.versioned import Snapshot
from ntalker_ns.viewer import PortraitControls

CPU_CHUNK = 1 << 15
"""Most rays of a picture that a CPU renders at a time, so that their data stay in its caches."""


@dataclass
class TalkerModelConfig(LossWeights, ModelConfig):
    """A talking radiance field over a torso and a background."""

    _target: type = field(default_factory=lambda: TalkerModel)
    portrait: PortraitConfig = field(default_factory=PortraitConfig)
    """Torso and background around the head."""
    field: TalkerFieldConfig = field(default_factory=TalkerFieldConfig)
    """Sizes of the radiance field."""
    backend: Backend = "auto"
    """What computes every operation: reference (plain torch), numba (CPU), triton or tcnn (CUDA); auto takes the
    fastest that runs on the device. Operations that a backend lacks fall back: tcnn to triton, all to reference."""
    coarse_fraction: float = 0.0
    """Fraction of the training, 0 to 1, over which the finer half of the grid levels is enabled, level by level: coarse
    pictures pull poses and shapes from further away. 0: all levels from the start."""
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
    refine_poses: bool = True
    """Refine the tracked poses while training."""
    occlusion_depth: float = 0.12
    """Depth of the occlusion prior behind the surface, world units."""
    occlusion_fraction: float = 0.1
    """Fraction of the rays, 0 to 1, that get a point of the occlusion prior."""
    occlusion_interval: int = 4
    """The prior is evaluated on average every N steps, on N times as many points (launch cost dominates)."""
    lip_noise: float = 0.1
    """Standard deviation of noise on the measured lip shapes in training, in units of their first component's."""
    eval_num_rays_per_chunk: int = 1 << 18
    """Most rays of a picture rendered at a time: a few GB on a GPU; a CPU renders fewer."""


class TalkerModel(Model):
    """A talking head. Audio, eyes and poses come from a driving sequence, at the camera's time."""

    config: TalkerModelConfig
    _mouth: Tensor

    def populate_modules(self) -> None:
        """Builds head, portrait and the regression of lips for the driving sequence."""
        super().populate_modules()
        keep_freed_memory()
        sequence: DrivingSequence = self.kwargs["metadata"]["driving"]
        frames = sequence.num_clip_frames
        rig, track = sequence.rig, sequence.track
        # nerfstudio's pipeline names the device that it moves the model to.
        self.ops = Ops(self.kwargs.get("device", "cpu"), self.config.backend)
        self.field = TalkerField(self.config.field, rig, self.ops)
        self.lip_model = create_lip_model(sequence.feature_info, rig.lip_basis, frames)
        self.occupancy = OccupancyGrid(
            self.ops, self.config.occupancy_resolution, min_weight=self.config.occupancy_weight
        )
        self._renderer = HeadRenderer(
            self.ops, self.field, self.occupancy, self.config.step_size, self.config.max_samples
        )
        # With new audio the sequence is a replay; the clip's own poses then come with the checkpoint.
        poses = torch.zeros(frames, 3, 4)
        poses[torch.from_numpy(track.replay)] = torch.from_numpy(track.camera_to_worlds)
        self.pose_refinement = PoseRefinement(poses)
        self.appearance = nn.Embedding(frames, max(self.config.field.appearance_dim, 1))
        nn.init.zeros_(self.appearance.weight)
        self._appearances = CachedPoseMap()
        self._mouth_radius = MOUTH * rig.eye_distance
        self.register_buffer("_mouth", torch.tensor(rig.keypoints["mouth"]).float(), persistent=False)
        self.portrait = Portrait(self.config.portrait, sequence, self.ops)
        self.controls = PortraitControls(self.config.portrait.background, self.portrait.set_background, self.set_eyes)
        self.set_face(None)
        self._static_camera = StaticCameraCache()
        self._warned_no_time = False
        self.set_driving(sequence)

    def set_driving(self, sequence: DrivingSequence) -> None:
        """Drives the head by another sequence: audio features, eyes, poses and surroundings.

        The features stay out of the state dict: their length changes with the audio.
        """
        self.driving = sequence
        self._features = torch.from_numpy(sequence.track.features)
        self._eyes = self._shown_eyes = DeviceCopy(torch.from_numpy(sequence.track.eye_openness))
        self._lip_shapes = DeviceCopy(torch.from_numpy(sequence.track.lip_shapes))
        self._brow_shapes = DeviceCopy(torch.from_numpy(sequence.track.brow_shapes))
        self.portrait.set_driving(sequence)

    def set_eyes(self, eyes: str) -> None:
        """Sets the eyes of rendered pictures; training keeps the clip's.

        Args:
            eyes: `replay`, `blink`, or an openness from 0 to 1.

        Raises:
            NTalkerError: it is none of these.
        """
        self._shown_eyes = DeviceCopy(torch.from_numpy(controlled(self.driving, self.driving, eyes).track.eye_openness))

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate: hash tables, networks, codes, torso, background and poses."""
        groups = {
            "grids": self.field.grid_parameters(),
            "networks": self.field.network_parameters(),
            "codes": list(self.appearance.parameters()),
            "torso": list(self.portrait.torso.parameters()),
            "background": list(self.portrait.learned.parameters()),
        }
        if self.config.refine_poses:
            groups["poses"] = list(self.pose_refinement.parameters())
        return groups

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Before the first step, fits lips and occupancy grid to the clip; before each, enables grid levels."""
        pipeline, trainer = training_callback_attributes.pipeline, training_callback_attributes.trainer
        assert pipeline is not None and trainer is not None
        self._read_face(pipeline.datamanager.train_dataset)

        ready = False

        def prepare(step: int) -> None:
            nonlocal ready
            coarse_steps = self.config.coarse_fraction * trainer.config.max_num_iterations
            self.field.show_levels(step / coarse_steps if coarse_steps else 1.0)
            if not ready and not bool(self.occupancy.carved):
                self._fit_to_clip(pipeline.datamanager.train_dataset)
            ready = True

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], prepare)]

    def _read_face(self, dataset: Any) -> None:
        """Sets the tracked face's surface, if the data set has it."""
        clip: Clip | None = dataset.clip
        if clip is not None and clip.face_shape is not None:
            self.set_face(FaceShell.around(clip.face_shape, self.occupancy.resolution))
        elif clip is not None:
            CONSOLE.print(
                f"[yellow]{clip.folder} has no face_shape.npy: depth is learned from the pictures alone, and side "
                "views are worse.[/yellow]"
            )

    def set_face(self, shell: FaceShell | None) -> None:
        """Sets bounds of the head's depth, for training.

        Args:
            shell: at the model's occupancy resolution; None: unknown.
        """
        self.face_shell = shell
        self._surface = None
        if shell is not None:
            depth = torch.from_numpy(shell.surface).float().to(self.device)
            self._surface = FaceSurface(depth, shell.unit, self.ops)

    def _fit_to_clip(self, dataset: Any) -> None:
        """Marks the training frames, fits the audio-to-lips regression to them, and closes cells outside the head."""
        trained = torch.as_tensor(dataset.metadata["frame_indices"]).long()
        windows, shapes = self._features[trained], self._lip_shapes.host[trained]
        openings = self.driving.track.mouth_opening[trained.numpy()]
        self.lip_model.fit(windows, shapes, silence_examples(self.driving.feature_info, shapes.numpy(), openings))
        self.pose_refinement.mark_trained(trained.to(self.device))
        carve(self.occupancy, dataset, self.face_shell, self.driving.rig.keypoints, self.config.occlusion_depth)

    @torch.no_grad()
    def update_occupancy(self) -> None:
        """Opens and closes cells of the occupancy grid by the field's density at a random training frame."""
        trained = self._trained_frames()
        conditions = self._conditions(trained[torch.randint(len(trained), (1,))])

        def density(positions: Tensor) -> Tensor:
            return self.field.density(positions, replace(conditions, counts=[len(positions)]))

        threshold = -float(np.log1p(-self.config.occupancy_opacity)) / self.config.step_size
        depth = self.config.occlusion_depth if self.config.occlusion_weight else 0.0
        self.occupancy.update(density, self.config.occupancy_cells, threshold, depth)

    def _predicted_lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """Lip shapes predicted from the audio at frames of the driving sequence."""
        return self.lip_model.lip_shapes(to_device(self._features[frames], self.device))

    def _measured_lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """Measured lip shapes with noise, so that they do not identify a frame."""
        measured = self._lip_shapes.on(self.device)[to_device(frames, self.device)]
        return measured + self.config.lip_noise * torch.randn_like(measured)

    def _conditions(
        self,
        frames: Int[Tensor, "frames"],
        poses: Float[Tensor, "frames 3 4"] | None = None,
        from_clip: bool | None = None,
    ) -> FrameConditions:
        """The field's conditions for frames.

        Args:
            frames: of the driving sequence, on the host; in training maybe on the device.
            poses: of the cameras, on the host; None: the sequence's own.
            from_clip: whether lips, eyes and appearance are the clip's, instead of predicted lips, chosen eyes and the
                appearance that follows from the pose; None: in training.
        """
        from_clip = self.training if from_clip is None else from_clip
        indices = to_device(frames, self.device)
        if from_clip:
            lips, appearance = self._measured_lips(frames), self.appearance(indices)
        else:
            own = torch.from_numpy(self.driving.track.camera_to_worlds[frames.numpy()]) if poses is None else poses
            lips, appearance = self._predicted_lips(frames), self._appearance_by_pose(own)
        eyes = (self._eyes if from_clip else self._shown_eyes).on(self.device)[indices][:, None]
        brows = self._brow_shapes.on(self.device)[indices]
        return FrameConditions(lips, self.field.speech_code(lips), brows, eyes, appearance)

    @torch.no_grad()
    def _appearance_by_pose(self, poses: Float[Tensor, "frames 3 4"]) -> Float[Tensor, "frames appearance"]:
        """Appearance codes of any cameras.

        The light stays fixed while the head turns: most of a training frame's code follows from its pose, and the
        residual is specific to that frame.
        """
        return to_device(self._appearances.at(self.pose_refinement, self.appearance.weight, poses), self.device)

    def _frames_of_times(self, times: Float[Tensor, "rays 1"]) -> Int[Tensor, "rays"]:
        """The audio clock: time t in [0, 1] is frame round(t (n - 1)) of the driving sequence."""
        return frames_of_times(times.view(-1).clamp(0.0, 1.0), len(self._features)).round().long()

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Renders the rays of a step.

        Args:
            ray_bundle: `TrainingRays` with `ClipInputs`.

        Returns:
            rgb and head (rays, 3), depth (rays, 1) in world units, accumulation (rays, 1), the mean
            samples_per_ray, and as `STEP` the `StepOutputs` for the losses.
        """
        assert isinstance(ray_bundle, TrainingRays) and isinstance(ray_bundle.step, ClipInputs)
        inputs = ray_bundle.step
        corrections = self.pose_refinement.of_frames(to_device(inputs.frames, self.device))
        step = self._render(ray_bundle, self._conditions(inputs.frames), corrections, inputs.headless)
        pixels = inputs.surroundings
        if self.training and pixels is not None:
            places = (inputs.place, inputs.plate, inputs.frames, ray_bundle.counts)
            step.composite, layers = self.portrait.composite(step.head, step.opacity, places, pixels)
            step.surroundings = (layers, pixels)
        return step.tensors() | {STEP: step}

    def _render(
        self,
        rays: TrainingRays,
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        behind: Float[Tensor, "rays 3"],
    ) -> StepOutputs:
        """Renders the head under the frames' pose corrections, over the colours behind it."""
        if not self.config.refine_poses:
            corrections = None
        counts = rays.counts
        if len(counts) == 1 and not torch.is_grad_enabled():
            outputs = self._renderer.picture(rays, conditions, corrections)
        else:
            capacity = rays.step.sizes.capacity
            outputs = self._renderer.rays(rays, counts, conditions, corrections, self.training, capacity)
        step = StepOutputs(**vars(outputs), rgb=outputs.head + (1.0 - outputs.opacity) * behind)
        if self.training and rays.step.sizes.occlusion:
            step.occlusion = self._occlusion_points(rays, conditions, corrections, step)
        return step

    def _occlusion_points(
        self,
        rays: TrainingRays,
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        step: StepOutputs,
    ) -> OcclusionPoints:
        """The field at random points behind the surface, except behind the lips: there the mouth is visible."""
        fraction = min(self.config.occlusion_fraction * self.config.occlusion_interval, 1.0)
        drawn, counts = stratified_rays(rays.counts, fraction, self.device)
        depth, opacity = step.depth.detach()[drawn], step.opacity.detach()[drawn]
        depth = depth + self.config.occlusion_depth * torch.rand_like(depth)
        to_mouth = rays.origins[drawn] + depth * rays.directions[drawn] - self._mouth
        hidden = (opacity.squeeze(-1) > OPAQUE) & (to_mouth.norm(dim=-1) > self._mouth_radius)
        subset = compact(hidden, counts)
        indices, depth, opacity = (subset.of(each) for each in (drawn, depth.squeeze(-1), opacity))
        points = self._renderer.behind(rays, subset.counts, conditions, corrections, indices, depth)
        target = step.head.detach()[indices] / opacity.clamp(min=OPAQUE)
        return OcclusionPoints(points.density, points.rgb, target, subset)

    def mark_visible(self, step: StepOutputs) -> None:
        """Records in the occupancy grid which samples of a training step contributed to their pixels."""
        if step.samples is not None:
            self.occupancy.mark_visible(step.samples.positions, step.samples.weights.detach())

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the step's rays, and the mean number of samples per ray."""
        mse = torch.nn.functional.mse_loss(outputs["rgb"].detach(), batch["image"].to(self.device))
        return {"psnr": -10.0 * torch.log10(mse), "samples_per_ray": outputs["samples_per_ray"]}

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted losses, see `base_losses`."""
        regularized = Regularized(
            surface=self._surface,
            step_size=self.config.step_size,
            pose_corrections=self.pose_refinement.vectors if self.config.refine_poses else None,
            torso_codes=self.portrait.torso.codes,
        )
        return base_losses(outputs[STEP], batch, self.config, regularized)

    def _trained_frames(self) -> Int[Tensor, "trained"]:
        """Indices in the driving sequence, on the host."""
        return self.pose_refinement.trained_frames()

    def _time_of(self, camera: Cameras) -> float:
        if camera.times is not None:
            return float(camera.times.flatten()[0])
        if not self._warned_no_time:
            CONSOLE.print("[yellow]This camera has no time; the head is shown at time 0.[/yellow]")
            self._warned_no_time = True
        return 0.0

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None, surroundings: SurroundingsKind = "learned"
    ) -> dict[str, Tensor]:
        """Renders a whole picture.

        Args:
            camera: one camera; its time in [0, 1] is the place in the driving sequence (0 without one).
            obb_box: not used; the head fits its box.
            surroundings: torso and background around the head; with `clip`, errors are those of the head alone.

        Returns:
            rgb (H, W, 3) and its opacity (H, W, 1); its layers head, torso and background (H, W, 3), each
            multiplied by its own opacity, and head_opacity, torso_opacity and background_opacity (H, W, 1), with
            rgb = head + (1 - head_opacity) (torso + (1 - torso_opacity) background); and depth, accumulation (the
            head's opacity again, by nerfstudio's name) and audio_motion (H, W, 1).
        """
        with limit_threads(self.device.type):
            return self._picture(camera.to("cpu").flatten(), surroundings)

    def _picture(self, camera: Cameras, surroundings: SurroundingsKind) -> dict[str, Tensor]:
        """`get_outputs_for_camera` of one flat camera on the host, where its numbers are read."""
        bundle = camera_rays(camera, self.device)
        frame = int(self._frames_of_times(torch.tensor([[self._time_of(camera)]]))[0])
        height, width = bundle.origins.shape[:2]
        around = self.portrait.around(frame, camera, surroundings)
        outputs = self._render_head(bundle.flatten(), frame, camera)
        opacity = outputs["accumulation"]
        # rgb first: the viewer shows the first output.
        outputs = {"rgb": outputs["head"] + (1.0 - opacity) * around.colour.view(-1, 3)} | outputs
        outputs = {name: values.view(height, width, -1) for name, values in outputs.items()}
        opacity = outputs["head_opacity"] = outputs["accumulation"]
        return outputs | around.outputs() | {"opacity": opacity + (1.0 - opacity) * around.opacity}

    def _render_head(self, rays: RayBundle, frame: int, camera: Cameras) -> dict[str, Tensor]:
        """The head's layer of a picture, ray by ray."""
        pose = camera.camera_to_worlds
        conditions = self._conditions(torch.tensor([frame]), pose)
        corrections = self.pose_refinement.of_pose(pose[0]) if self.config.refine_poses else None
        at_once = self.config.eval_num_rays_per_chunk
        if self.device.type == "cpu":
            at_once = min(at_once, CPU_CHUNK)

        def render(chosen: Tensor, marks: bool) -> dict[str, Tensor]:
            # Slices where all rays are rendered: indexing copies.
            spans = [slice(first, first + at_once) for first in range(0, len(chosen), at_once)] or [slice(0, 0)]
            picked = spans if len(chosen) == len(rays) else [chosen[span] for span in spans]
            parts = [self._renderer.picture(rays[each], conditions, corrections, marks).picture() for each in picked]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        written = Snapshot((*self.parameters(), *self.buffers()))
        key = (lens(camera), tuple(pose.flatten().tolist()), written, self.field.picture_type)
        return self._static_camera.render(key, len(rays), self.device, render)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR of the whole picture, the head, the face oval and the lips, and SSIM; and pictures side by side.

        Args:
            outputs: of `get_outputs_for_camera`.
            batch: an item of the data set.
        """
        from torchmetrics.functional.image import structural_similarity_index_measure

        truth, rgb = batch["image"].to(self.device), outputs["rgb"].clamp(0.0, 1.0)
        masks = region_masks(batch["labels"].cpu().numpy(), batch["face_mask"].cpu().numpy())
        errors = region_errors(rgb.cpu().numpy(), truth.cpu().numpy(), masks)
        # The same keys for every frame: nerfstudio averages those of the first.
        metrics = {
            "psnr" if name == "full" else f"{name}_psnr": psnr(total / pixels) if pixels else math.nan
            for name, (total, pixels) in errors.items()
        }
        planes = (rgb.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None])
        metrics["ssim"] = float(structural_similarity_index_measure(*planes, data_range=1.0))  # type: ignore[arg-type]
        images = {
            "img": torch.cat([truth, rgb], dim=1),
            "accumulation": outputs["accumulation"].expand(-1, -1, 3),
            "audio_motion": outputs["audio_motion"].clamp(0.0, 1.0).expand(-1, -1, 3),
        }
        return metrics, images
