"""The talking head as a nerfstudio model: rays and a time in, colours out."""

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

from ntalker_ns.data.clip import Clip
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.driving.controls import controlled
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.face.shell import MOUTH, FaceShell
from ntalker_ns.field.pose_refinement import KeptMap, PoseRefinement
from ntalker_ns.field.ragged import choose
from ntalker_ns.field.talker_field import FrameConditions, TalkerField, TalkerFieldConfig
from ntalker_ns.rendering.depth_prior import OPAQUE, occlusion_loss, scattered, squared_off
from ntalker_ns.rendering.head_renderer import HeadRenderer
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.portrait import Portrait, PortraitConfig, SurroundingsKind
from ntalker_ns.rendering.rays import camera_rays
from ntalker_ns.rendering.static_cache import StillCamera, lens, versions
from ntalker_ns.rendering.visual_hull import carve
from ntalker_ns.speech.lip_regression import LipReader
from ntalker_ns.speech.pauses import LOUDNESSES, pauses
from ntalker_ns.training.step_budget import StepPlan
from ntalker_ns.training.threads import keep_freed_memory, limit_threads
from ntalker_ns.training.transfers import DeviceCopy, to_device
from ntalker_ns.viewer import PortraitControls

CPU_CHUNK = 1 << 15
"""Most rays of a picture that a CPU renders at a time: what belongs to them stays in its caches."""


@dataclass
class TalkerModelConfig(ModelConfig):
    """A talking radiance field over a torso and a backdrop."""

    _target: type = field(default_factory=lambda: TalkerModel)
    portrait: PortraitConfig = field(default_factory=PortraitConfig)
    """Torso and background around the head."""
    field: TalkerFieldConfig = field(default_factory=TalkerFieldConfig)
    """Sizes of the radiance field."""
    coarse_fraction: float = 0.0
    """Part of the training, 0 to 1, over which the finer half of the grid levels is added, level by level: coarse
    pictures pull poses and shapes from further away. 0: all levels from the start."""
    occupancy_resolution: int = 128
    """Cells along an edge of the occupancy grid."""
    occupancy_interval: int = 16
    """Steps between two refreshes of the occupancy grid."""
    occupancy_cells: int = 65536
    """Cells asked at a refresh."""
    occupancy_weight: float = 0.01
    """A cell is closed where no sample of the training rays weighs that much in its pixel."""
    occupancy_opacity: float = 0.01
    """A cell is open where one step through it would be at least this opaque."""
    step_size: float = 0.0125
    """Distance between the samples of a ray in world units; the box is 2 wide."""
    max_samples: int = 32
    """Samples of a ray at most, after skipping empty cells."""
    refine_poses: bool = True
    """Correct the tracked poses by the pictures while training."""
    pose_weight: float = 1e-2
    """Pull of the pose corrections towards the tracker (on their mean square)."""
    mask_weight: float = 0.1
    """Weight of the squared difference between accumulated opacity and the head mask."""
    entropy_weight: float = 1e-3
    """Weight of the entropy of accumulated opacity: pixels are head or not, seldom half."""
    thickness_weight: float = 0.0
    """Weight of the variance of depth along a ray, in world units squared: thin surfaces need fewer samples."""
    surface_weight: float = 0.03
    """Weight of the squared distance between what a ray sees and the tracked face's surface, in distances between the
    eyes: where the head hardly turns pictures leave depth open."""
    occlusion_weight: float = 0.1
    """Weight of what the head is behind its surface: nobody saw it, and views from aside find what was never learned.
    It becomes solid and takes the colours before it. 0: it stays as it comes."""
    occlusion_depth: float = 0.12
    """How far behind the surface, world units."""
    occlusion_fraction: float = 0.1
    """Share of the rays behind whose surface one point is learned."""
    occlusion_interval: int = 4
    """Such points are learned in one step of so many, drawn at random, and of so many steps' rays at once: to begin
    costs as much as thousands of points."""
    lip_noise: float = 0.1
    """Standard deviation of noise on measured lip shapes in training, in units of their first component's."""
    eval_num_rays_per_chunk: int = 1 << 18
    """Most rays of a picture rendered at a time: a few GB on a GPU; a CPU renders fewer."""


class TalkerModel(Model):
    """A talking head. Audio, eyes and poses come from a driving sequence; a camera's time says where in it."""

    config: TalkerModelConfig
    _mouth: Tensor

    def populate_modules(self) -> None:
        """Builds the field for the head and the features of the driving sequence."""
        super().populate_modules()
        keep_freed_memory()
        sequence: DrivingSequence = self.kwargs["metadata"]["driving"]
        frames = sequence.num_clip_frames
        rig, track = sequence.rig, sequence.track
        self.field = TalkerField(self.config.field, rig)
        heard = frames + len(LOUDNESSES)
        self.lip_reader = LipReader(track.features.shape[-1], len(rig.lip_basis), heard)
        self.occupancy = OccupancyGrid(self.config.occupancy_resolution, min_weight=self.config.occupancy_weight)
        self._renderer = HeadRenderer(self.field, self.occupancy, self.config.step_size, self.config.max_samples)
        # With new audio the sequence is a replay; the clip's own poses then come with the checkpoint.
        poses = torch.zeros(frames, 3, 4)
        poses[torch.from_numpy(track.replay)] = torch.from_numpy(track.camera_to_worlds)
        self.pose_refinement = PoseRefinement(poses)
        self.appearance = nn.Embedding(frames, max(self.config.field.appearance_dim, 1))
        nn.init.zeros_(self.appearance.weight)
        self._appearances = KeptMap()
        self._mouth_radius = MOUTH * rig.eye_distance
        self.register_buffer("_mouth", torch.tensor(rig.keypoints["mouth"]).float(), persistent=False)
        self.portrait = Portrait(self.config.portrait, sequence)
        self.controls = PortraitControls(self.config.portrait.background, self.portrait.set_background, self.set_eyes)
        self.set_face(None)
        self._still_camera = StillCamera()
        self._warned_no_time = False
        self.set_driving(sequence)

    def set_driving(self, sequence: DrivingSequence) -> None:
        """Lets another sequence drive the head: its audio features, eyes, poses and what lies under the head.

        The feature track is no part of the state dict: its length changes with the audio.
        """
        self.driving = sequence
        self._features = torch.from_numpy(sequence.track.features)
        self._eyes = self._shown_eyes = DeviceCopy(torch.from_numpy(sequence.track.eye_openness))
        self._lip_shapes = DeviceCopy(torch.from_numpy(sequence.track.lip_shapes))
        self._brow_shapes = DeviceCopy(torch.from_numpy(sequence.track.brow_shapes))
        self.portrait.set_driving(sequence)

    def set_eyes(self, eyes: str) -> None:
        """Chooses how the eyes open in rendered pictures; training keeps the clip's.

        Args:
            eyes: `replay`, `blink`, or an openness from 0 to 1.

        Raises:
            NTalkerError: it is none of these.
        """
        self._shown_eyes = DeviceCopy(torch.from_numpy(controlled(self.driving, self.driving, eyes).track.eye_openness))

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Hash tables, networks, codes and poses learn at rates of their own."""
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
        """Takes what the clip says before the first step, and refreshes the occupancy grid every few steps."""
        pipeline, trainer = training_callback_attributes.pipeline, training_callback_attributes.trainer
        assert pipeline is not None and trainer is not None
        self._know_face(pipeline.datamanager.train_dataset)

        ready = False

        def prepare(step: int) -> None:
            nonlocal ready
            coarse_steps = self.config.coarse_fraction * trainer.config.max_num_iterations
            self.field.show_levels(step / coarse_steps if coarse_steps else 1.0)
            if not ready and not bool(self.occupancy.carved):
                self._take_clip(pipeline.datamanager.train_dataset)
            ready = True

        return [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], prepare),
            TrainingCallback(
                [TrainingCallbackLocation.AFTER_TRAIN_ITERATION],
                self._refresh_occupancy,
                update_every_num_iters=self.config.occupancy_interval,
            ),
        ]

    def _know_face(self, dataset: Any) -> None:
        """Takes the tracked face's shape from the data set, where it is there and knows it."""
        clip: Clip | None = dataset.clip
        if clip is not None and clip.face_shape is not None:
            self.set_face(FaceShell.around(clip.face_shape, self.occupancy.resolution))
        elif clip is not None:
            CONSOLE.print(
                f"[yellow]{clip.folder} has no face_shape.npy: depth is learned from the pictures alone, and "
                "views from aside are worse for it.[/yellow]"
            )

    def set_face(self, shell: FaceShell | None) -> None:
        """Says where the head is in depth: known in training, where the data set says so.

        Args:
            shell: of the model's occupancy resolution; None: not known.
        """
        self.face_shell = shell
        self._surface = None if shell is None else torch.from_numpy(shell.surface).float().to(self.device)

    def _take_clip(self, dataset: Any) -> None:
        """Notes which frames train, learns from them which lips sounds ask for, and closes the cells where the head
        cannot be."""
        trained = torch.as_tensor(dataset.metadata["frame_indices"]).long()
        windows, shapes = self._features[trained], self._lip_shapes.host[trained]
        openings = self.driving.track.mouth_opening[trained.numpy()]
        silent, closed = pauses(self.driving.feature_info, shapes.numpy(), openings)
        self.lip_reader.fit(torch.cat([windows, silent]), torch.cat([shapes, closed]))
        self.pose_refinement.mark_trained(trained.to(self.device))
        carve(self.occupancy, dataset, self.face_shell, self.driving.rig.keypoints, self.config.occlusion_depth)

    @torch.no_grad()
    def _refresh_occupancy(self, step: int) -> None:
        trained = self._trained_frames()
        conditions = self._conditions(trained[torch.randint(len(trained), (1,))])

        def density(positions: Tensor) -> Tensor:
            return self.field.density(positions, replace(conditions, counts=[len(positions)]))

        threshold = -float(np.log1p(-self.config.occupancy_opacity)) / self.config.step_size
        depth = self.config.occlusion_depth if self.config.occlusion_weight else 0.0
        self.occupancy.update(density, self.config.occupancy_cells, threshold, depth)

    def _heard_lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """The lip shapes that the audio asks for at driving frames."""
        return self.lip_reader(to_device(self._features[frames], self.device))

    def _lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """Measured lip shapes in training, blurred so that they cannot name a frame; otherwise the heard ones."""
        if not self.training:
            return self._heard_lips(frames)
        measured = self._lip_shapes.on(self.device)[to_device(frames, self.device)]
        return measured + self.config.lip_noise * torch.randn_like(measured)

    def _conditions(
        self, frames: Int[Tensor, "frames"], poses: Float[Tensor, "frames 3 4"] | None = None
    ) -> FrameConditions:
        """What the field is told of each frame.

        Args:
            frames: of the driving sequence, on the host; in training maybe on the device.
            poses: of the cameras that see them, on the host; the sequence's own where None.
        """
        there = to_device(frames, self.device)
        if self.training:
            appearance = self.appearance(there)
        else:
            own = torch.from_numpy(self.driving.track.camera_to_worlds[frames.numpy()])
            appearance = self._appearance_by_pose(own if poses is None else poses)
        eyes = (self._eyes if self.training else self._shown_eyes).on(self.device)[there][:, None]
        lips = self._lips(frames)
        brows = self._brow_shapes.on(self.device)[there]
        return FrameConditions(lips, self.field.speech_code(lips), brows, eyes, appearance)

    @torch.no_grad()
    def _appearance_by_pose(self, poses: Float[Tensor, "frames 3 4"]) -> Float[Tensor, "frames appearance"]:
        """Appearance codes of cameras that need not be trained ones.

        Light stays in the room while the head turns: most of a training frame's code follows from its pose, and what
        does not is an accident of that frame.
        """
        return to_device(self._appearances.at(self.pose_refinement, self.appearance.weight, poses), self.device)

    def _frames_of_times(self, times: Float[Tensor, "rays 1"]) -> Int[Tensor, "rays"]:
        """The audio clock: time t in [0, 1] is frame round(t (n - 1)) of the driving sequence."""
        last = len(self._features) - 1
        return (times.view(-1).clamp(0.0, 1.0) * last).round().long()

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Renders the rays of training frames; the rays of a frame must lie side by side.

        Args:
            ray_bundle: with `times`, and `metadata["underlay"]` (rays, 3): what is seen where the head is not; in
                training also what `Portrait.composed` needs, and as `plan` a `StepPlan`.

        Returns:
            rgb and head (rays, 3), depth (rays, 1) world units, accumulation (rays, 1), for the metrics the mean number
            of samples a ray, and in training what `Portrait.composed` gives.
        """
        frames, rays = self._frames_and_rays(ray_bundle)
        corrections = self.pose_refinement.of_frames(to_device(frames, self.device))
        outputs = self._render(ray_bundle, rays, self._conditions(frames), corrections)
        if self.training and "surroundings" in ray_bundle.metadata:
            head, opacity = outputs["head"], outputs["accumulation"]
            outputs |= self.portrait.composed(head, opacity, ray_bundle.metadata, frames, rays)
        return outputs

    def _frames_and_rays(self, ray_bundle: RayBundle) -> tuple[Int[Tensor, "frames"], list[int]]:
        """The frames that rays are of, on the host unless the rays name them on the device, and the rays of each."""
        if "frames" in ray_bundle.metadata:
            frames = torch.as_tensor(ray_bundle.metadata["frames"])
            return frames, [len(ray_bundle) // len(frames)] * len(frames)
        assert ray_bundle.times is not None
        frames = self._frames_of_times(ray_bundle.times).cpu()
        frames, counts = torch.unique_consecutive(frames, return_counts=True)
        return frames, counts.tolist()

    def _render(
        self,
        ray_bundle: RayBundle,
        rays: list[int],
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
    ) -> dict[str, Any]:
        """Renders rays that lie frame after frame, `rays` of them for each, under the frames' pose corrections."""
        if not self.config.refine_poses:
            corrections = None
        if len(rays) == 1 and not torch.is_grad_enabled():
            return self._renderer.picture(ray_bundle, conditions, corrections)
        plan: Any = ray_bundle.metadata.get("plan", StepPlan())
        given = (ray_bundle, rays, conditions, corrections)
        outputs, samples = self._renderer.rays(*given, self.training, plan.room)
        if self.training:
            self.occupancy.see(samples.positions, samples.weights.detach())
            if self.face_shell is not None and self._surface is not None:
                # In distances between the eyes.
                scale = self.face_shell.unit**2 * len(ray_bundle)
                off = squared_off(samples.positions, self._surface)
                outputs["surface_distance"] = torch.dot(samples.weights, off) / scale
            if plan.hidden:
                outputs["occlusion"] = self._occlusion_loss(*given, outputs)
        return outputs

    def _occlusion_loss(
        self,
        ray_bundle: RayBundle,
        rays: list[int],
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        outputs: dict[str, Tensor],
    ) -> Float[Tensor, ""]:
        """How far random points behind the surface are from being opaque and of the colour before them, over all rays.

        Behind lips nothing is asked: there the mouth is seen.
        """
        share = min(self.config.occlusion_fraction * self.config.occlusion_interval, 1.0)
        drawn, counts = scattered(rays, share, self.device)
        depth, opacity = (outputs[name].detach()[drawn] for name in ("depth", "accumulation"))
        depth = depth + self.config.occlusion_depth * torch.rand_like(depth)
        to_mouth = ray_bundle.origins[drawn] + depth * ray_bundle.directions[drawn] - self._mouth
        hidden = (opacity.squeeze(-1) > OPAQUE) & (to_mouth.norm(dim=-1) > self._mouth_radius)
        asked = choose(hidden, counts)
        chosen, depth, opacity = (asked.of(each) for each in (drawn, depth.squeeze(-1), opacity))
        found = self._renderer.behind(ray_bundle, asked.counts, conditions, corrections, chosen, depth)
        seen = outputs["head"].detach()[chosen] / opacity.clamp(min=OPAQUE)
        off = occlusion_loss(found.density, found.rgb, seen, self.config.step_size)
        return asked.total(off) / len(ray_bundle)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR over the step's rays, and how many samples a ray took."""
        mse = torch.nn.functional.mse_loss(outputs["rgb"].detach(), batch["image"].to(self.device))
        return {"psnr": -10.0 * torch.log10(mse), "samples_per_ray": outputs["samples_per_ray"]}

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Colour, mask, entropy, lip and pose terms, each already weighted."""
        accumulation = outputs["accumulation"].squeeze(-1)
        head = (batch["labels"].to(self.device) >= HEAD).float()
        opacity = accumulation.clamp(1e-4, 1.0 - 1e-4)
        entropy = -(opacity * opacity.log() + (1.0 - opacity) * (1.0 - opacity).log()).mean()
        losses = {
            "rgb": torch.nn.functional.mse_loss(outputs["rgb"], batch["image"].to(self.device)),
            "mask": self.config.mask_weight * torch.nn.functional.mse_loss(accumulation, head),
            "entropy": self.config.entropy_weight * entropy,
        }
        if "surface_distance" in outputs:
            losses["surface_distance"] = self.config.surface_weight * outputs["surface_distance"]
        if "occlusion" in outputs:
            losses["occlusion"] = self.config.occlusion_weight * outputs["occlusion"]
        if self.config.thickness_weight and "thickness" in outputs:
            losses["thickness"] = self.config.thickness_weight * outputs["thickness"].mean()
        losses |= self.portrait.losses(outputs, batch)
        if self.config.refine_poses:
            losses["poses"] = self.config.pose_weight * self.pose_refinement.spread()
        return losses

    def _trained_frames(self) -> Int[Tensor, "trained"]:
        """On the host."""
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
            camera: one camera; its time in [0, 1] says where in the driving sequence the head is (0 without one).
            obb_box: not used; the head fits its box.
            surroundings: what is around the head; `clip` scores the head alone.

        Returns:
            rgb (H, W, 3) and its opacity (H, W, 1); what it is composed of: head, torso and background (H, W, 3), each
            multiplied by its own opacity, and head_opacity, torso_opacity and background_opacity (H, W, 1), with
            rgb = head + (1 - head_opacity) (torso + (1 - torso_opacity) background); and depth, accumulation (the
            head's opacity again, by nerfstudio's name) and audio_motion (H, W, 1).
        """
        with limit_threads(self.device.type):
            return self._picture(camera.to("cpu").flatten(), surroundings)

    def _picture(self, camera: Cameras, surroundings: SurroundingsKind) -> dict[str, Tensor]:
        """What `get_outputs_for_camera` gives for one flat camera on the host, of which many numbers are asked."""
        bundle = camera_rays(camera, self.device)
        frame = int(self._frames_of_times(torch.tensor([[self._time_of(camera)]]))[0])
        height, width = bundle.origins.shape[:2]
        around = self.portrait.around(frame, camera, surroundings)
        rays = bundle.flatten()
        rays.metadata["underlay"] = around.colour.view(-1, 3)
        outputs = self._render_head(rays, frame, camera)
        opacity = outputs["accumulation"]
        # First, since the viewer shows the first output.
        outputs = {"rgb": outputs["head"] + (1.0 - opacity) * rays.metadata["underlay"]} | outputs
        outputs = {name: values.view(height, width, -1) for name, values in outputs.items()}
        opacity = outputs["head_opacity"] = outputs["accumulation"]
        return outputs | around.outputs() | {"opacity": opacity + (1.0 - opacity) * around.opacity}

    def _render_head(self, rays: RayBundle, frame: int, camera: Cameras) -> dict[str, Tensor]:
        """What of a picture is the head's, ray by ray."""
        pose = camera.camera_to_worlds
        conditions = self._conditions(torch.tensor([frame]), pose)
        corrections = self.pose_refinement.of_pose(pose[0]) if self.config.refine_poses else None
        names = ("depth", "accumulation", "audio_motion", "head")
        at_once = self.config.eval_num_rays_per_chunk
        if self.device.type == "cpu":
            at_once = min(at_once, CPU_CHUNK)

        def render(chosen: Tensor, marks: bool) -> dict[str, Tensor]:
            # All rays need not be picked out one by one.
            spans = [slice(first, first + at_once) for first in range(0, len(chosen), at_once)] or [slice(0, 0)]
            picked = spans if len(chosen) == len(rays) else [chosen[span] for span in spans]
            parts = [self._renderer.picture(rays[each], conditions, corrections, marks) for each in picked]
            return {name: torch.cat([part[name] for part in parts]) for name in (*names, *(["live"] if marks else []))}

        written = versions((*self.parameters(), *self.buffers()))
        key = (lens(camera), tuple(pose.flatten().tolist()), written, self.field.picture_type)
        return self._still_camera.render(key, len(rays), self.device, render)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR of the whole picture, the head, the face oval and the lips, and SSIM; pictures side by side.

        Args:
            outputs: of `get_outputs_for_camera`.
            batch: an item of the data set.
        """
        from torchmetrics.functional.image import structural_similarity_index_measure

        truth = batch["image"].to(self.device)
        rgb = outputs["rgb"].clamp(0.0, 1.0)
        labels = batch["labels"].to(self.device)
        squared = (rgb - truth).square().mean(dim=-1)
        regions = {
            "psnr": torch.ones_like(labels, dtype=torch.bool),
            "head_psnr": labels >= HEAD,
            "face_psnr": batch["face_mask"].to(self.device),
            "lips_psnr": labels > HEAD,
        }
        metrics = {name: float(-10.0 * torch.log10(squared[mask].mean())) for name, mask in regions.items()}
        planes = (rgb.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None])
        metrics["ssim"] = float(structural_similarity_index_measure(*planes, data_range=1.0))  # type: ignore[arg-type]
        images = {
            "img": torch.cat([truth, rgb], dim=1),
            "accumulation": outputs["accumulation"].expand(-1, -1, 3),
            "audio_motion": outputs["audio_motion"].clamp(0.0, 1.0).expand(-1, -1, 3),
        }
        return metrics, images
