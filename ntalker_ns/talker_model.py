"""The talking head as a nerfstudio model: rays or a camera with a time in, colours out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn
from torch.optim import Optimizer

from ntalker_ns.audio.clock import frames_of_times
from ntalker_ns.data.clip import Clip
from ntalker_ns.data.regions import psnr, region_errors, region_masks
from ntalker_ns.data.training_rays import ClipInputs, TrainingRays
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.field.pose_refinement import PoseRefinement
from ntalker_ns.kernels.backend import Backend
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.rendering.depth_prior import stratified_rays
from ntalker_ns.rendering.display import RUN_DISPLAY, DisplayOptions
from ntalker_ns.rendering.field_head import FieldHead, FieldHeadConfig
from ntalker_ns.rendering.head import FaceInputs, Head
from ntalker_ns.rendering.losses import STEP, StepOutputs, portrait_losses
from ntalker_ns.rendering.portrait import Portrait, PortraitConfig, SurroundingsKind
from ntalker_ns.rendering.splat_head import SplatConfig, SplatHead
from ntalker_ns.rendering.surface import beside_head, seen_surface
from ntalker_ns.speech.adaptation import AdaptedPrior
from ntalker_ns.speech.audio_network import neighbours
from ntalker_ns.speech.lip_model import create_lip_model
from ntalker_ns.speech.local_bank import bank_folder, refined_by_bank
from ntalker_ns.speech.prior import LipPrior, load_prior
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.training.threads import keep_freed_memory, limit_threads
from ntalker_ns.training.transfers import DeviceCopy, to_device

DRIVEN = ("driving", "_shown_lips", "_features", "_eyes", "_shown_eyes", "_lip_shapes", "_brow_shapes")
"""Attributes that `TalkerModel.set_driving` sets."""
COMPOSITED = 4096
"""About how many pixels of a whole picture are composited with torso and background in a step."""


@dataclass
class TalkerModelConfig(FieldHeadConfig, ModelConfig):
    """A talking head over a torso and a background."""

    _target: type = field(default_factory=lambda: TalkerModel)
    splats: Annotated[SplatConfig | None, tyro.conf.AvoidSubcommands, tyro.conf.arg(name="")] = None
    """A head of Gaussians instead of a radiance field, whose options then have no effect."""
    portrait: PortraitConfig = field(default_factory=PortraitConfig)
    """Torso and background around the head."""
    backend: Backend = "auto"
    """Backend of all operations: reference (plain torch), numba (CPU), triton or tcnn (CUDA); auto selects the
    fastest that runs on the device. Operations that a backend lacks fall back: tcnn to triton, all to reference."""
    bank: Path | None = None
    """Folder of the bank whose clips refine the audio-to-lips prior; by default the user's own, filled by
    `ntalker bank add`."""
    refine_poses: bool = True
    """Refine the tracked poses while training."""
    lip_noise: float = 0.1
    """Standard deviation of noise on the measured lip shapes in training, in units of their first component's."""


class TalkerModel(Model):
    """A talking head. Audio, eyes and poses come from a driving sequence, at the camera's time."""

    config: TalkerModelConfig
    head: Head
    edited = False
    """Whether it was edited by an instruction, and so has a refinement network."""

    def populate_modules(self) -> None:
        """Builds head, portrait and the regression of lips for the driving sequence."""
        super().populate_modules()
        keep_freed_memory()
        sequence: DrivingSequence = self.kwargs["metadata"]["driving"]
        frames = sequence.num_clip_frames
        rig, track = sequence.rig, sequence.track
        # nerfstudio's pipeline names the device that it moves the model to.
        self.ops = Ops(self.kwargs.get("device", "cpu"), self.config.backend)
        splats = self.config.splats
        if splats is not None and self.config.speech != "regression":
            raise NTalkerError("--pipeline.model.speech network needs a radiance field: train ntalker-base with it.")
        self.head = (
            FieldHead(self.config, rig, frames, self.ops, sequence.feature_info.channels)
            if splats is None
            else SplatHead(splats, sequence, self.ops)
        )
        self.lip_model = create_lip_model(sequence.feature_info, rig.lip_basis, frames)
        # With new audio the sequence is a replay; the clip's own poses then come with the checkpoint.
        poses = torch.zeros(frames, 3, 4)
        poses[torch.from_numpy(track.replay)] = torch.from_numpy(track.camera_to_worlds)
        self.pose_refinement = PoseRefinement(poses)
        self.portrait = Portrait(self.config.portrait, sequence, self.ops)
        self._warned_no_time = False
        self.set_driving(sequence)

    def set_driving(self, sequence: DrivingSequence) -> None:
        """Drives the head by another sequence: audio features, eyes, poses and surroundings.

        The features stay out of the state dict: their length changes with the audio.
        """
        self.driving = sequence
        self._shown_lips: Tensor | None = None
        self._features = DeviceCopy(torch.from_numpy(sequence.track.features))
        self._eyes = self._shown_eyes = DeviceCopy(torch.from_numpy(sequence.track.eye_openness))
        self._lip_shapes = DeviceCopy(torch.from_numpy(sequence.track.lip_shapes))
        self._brow_shapes = DeviceCopy(torch.from_numpy(sequence.track.brow_shapes))
        self.portrait.set_driving(sequence)

    def driven(self) -> dict[str, Any]:
        """What drives the head now, for `drive_again`: the same tensors, copies on the device included."""
        return {name: getattr(self, name) for name in DRIVEN} | {"portrait": self.portrait.driven()}

    def drive_again(self, driven: Mapping[str, Any]) -> None:
        """Restores the driving state that `driven` returned, without copying.

        Args:
            driven: of the same model.
        """
        for name in DRIVEN:
            setattr(self, name, driven[name])
        self.portrait.drive_again(driven["portrait"])

    def show_face(self, lips: Float[Tensor, " lip_dim"], openness: float) -> None:
        """Sets lips and eyes of rendered pictures, whatever their time: for speech that arrives in a stream.

        `set_driving` takes it back.

        Args:
            lips: the lip shape, in the units of the driving sequence's.
            openness: of the eyes, 0 to 1.

        Raises:
            NTalkerError: the head has no lip shapes.
        """
        if self.head.needs_windows:
            raise NTalkerError(
                "This head was trained with --pipeline.model.speech network, which does not speak in a stream: use "
                "`ntalker render`, or train one with the default."
            )
        self._shown_lips = to_device(lips, self.device)
        self._shown_eyes = DeviceCopy(torch.full((len(self.driving),), openness))

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate: the head's, torso, background and poses."""
        groups = self.head.param_groups() | {
            "torso": list(self.portrait.torso.parameters()),
            "background": list(self.portrait.learned.parameters()),
        }
        if self.config.refine_poses:
            groups["poses"] = list(self.pose_refinement.parameters())
        return groups

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Before the first step, fits lips and head to the clip; before each, lets the head prepare."""
        pipeline, trainer = training_callback_attributes.pipeline, training_callback_attributes.trainer
        assert pipeline is not None and trainer is not None
        self._read_face(pipeline.datamanager.train_dataset)

        ready = False

        def prepare(step: int) -> None:
            nonlocal ready
            self.head.before_step(step / trainer.config.max_num_iterations)
            if not ready and not self.head.fitted:
                self.fit_to_clip(pipeline.datamanager.train_dataset)
            ready = True

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], prepare)]

    def _read_face(self, dataset: Any) -> None:
        """Sets the tracked face's surface, if the data set has it."""
        clip: Clip | None = dataset.clip
        if clip is not None and clip.face_shape is not None:
            self.head.set_face(FaceShell.around(clip.face_shape, self.config.occupancy_resolution))
        elif clip is not None:
            CONSOLE.print(
                f"[yellow]{clip.folder} has no face_shape.npy: depth is learned from the pictures alone, and side "
                "views are worse.[/yellow]"
            )

    def fit_to_clip(self, dataset: Any) -> None:
        """Marks the training frames, and fits the audio-to-lips regression and the head to them.

        Args:
            dataset: the training frames.
        """
        trained = torch.as_tensor(dataset.metadata["frame_indices"]).long()
        windows, shapes = self._features.host[trained], self._lip_shapes.host[trained]
        openings = self.driving.track.mouth_opening[trained.numpy()]
        silence = silence_examples(self.driving.feature_info, shapes.numpy(), openings)
        if isinstance(self.lip_model, AdaptedPrior):
            self.lip_model.fit(windows, shapes, silence, self._prior())
        else:
            self.lip_model.fit(windows, shapes, silence)
        self.pose_refinement.mark_trained(trained.to(self.device))
        self.head.fit_to_clip(dataset)
        if self.head.needs_windows:
            windows = self._features.on(self.device)
            self.head.fit_speech(windows, self.lip_model.lip_shapes(windows), trained)

    def _prior(self) -> LipPrior:
        """The prior over speakers, refined by the user's own bank."""
        prior, sentences = refined_by_bank(load_prior(), bank_folder(self.config.bank), self.driving.track.features)
        for sentence in sentences:
            CONSOLE.print(sentence)
        return prior

    @torch.no_grad()
    def adapt_head(self, optimizers: Mapping[str, Optimizer]) -> None:
        """Lets the head adapt to what it has learned, see `Head.adapt`."""
        trained = self._trained_frames()
        self.head.adapt(self.conditions(trained[torch.randint(len(trained), (1,))]), optimizers)

    def predicted_lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """Lip shapes predicted from the audio, or those of `show_face`.

        Args:
            frames: of the driving sequence, on the host.
        """
        if self._shown_lips is not None:
            return self._shown_lips.expand(len(frames), -1)
        features, closed = to_device(self._features.host[frames], self.device), self.driving.closed
        if closed is not None:
            return self.lip_model.lip_shapes(features, to_device(torch.from_numpy(closed)[frames], self.device))
        return self.lip_model.lip_shapes(features)

    def _windows(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames neighbours 16 channels"] | None:
        """Audio features around frames, for heads that they drive."""
        if not self.head.needs_windows:
            return None
        features = self._features.on(self.device)
        return features[neighbours(frames, len(features))]

    def _measured_lips(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames lip_dim"]:
        """Measured lip shapes with noise, so that they do not identify a frame."""
        measured = self._lip_shapes.on(self.device)[to_device(frames, self.device)]
        return measured + self.config.lip_noise * torch.randn_like(measured)

    def conditions(
        self,
        frames: Int[Tensor, "frames"],
        poses: Float[Tensor, "frames 3 4"] | None = None,
        from_clip: bool | None = None,
    ) -> Any:
        """The head's conditions for frames.

        Args:
            frames: of the driving sequence, on the host; in training maybe on the device.
            poses: of the cameras, on the host; None: the sequence's own.
            from_clip: whether lips and appearance are the clip's, instead of predicted lips and the appearance that
                follows from the pose; None: in training.
        """
        from_clip = self.training if from_clip is None else from_clip
        indices = to_device(frames, self.device)
        lips = self._measured_lips(frames) if from_clip else self.predicted_lips(frames)
        if poses is None and not from_clip:
            poses = torch.from_numpy(self.driving.track.camera_to_worlds[frames.numpy()])
        eyes = (self._eyes if from_clip else self._shown_eyes).on(self.device)[indices][:, None]
        brows = self._brow_shapes.on(self.device)[indices]
        seen_from = indices if from_clip or poses is None else poses
        face = FaceInputs(lips, brows, eyes, seen_from, self._windows(indices))
        return self.head.conditions(face, self.pose_refinement)

    def frames_of_times(self, times: Float[Tensor, "rays 1"]) -> Int[Tensor, "rays"]:
        """The audio clock: time t in [0, 1] is frame round(t (n - 1)) of the driving sequence.

        Args:
            times: clamped to [0, 1].

        Returns:
            Indices of frames, on the device of `times`.
        """
        return frames_of_times(times.view(-1).clamp(0.0, 1.0), len(self.driving)).round().long()

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
        step = self._render(ray_bundle, self.conditions(inputs.frames), corrections, inputs.headless)
        pixels = inputs.surroundings
        if self.training and pixels is not None:
            drawn, counts = self._composited(ray_bundle)
            of_rays = (step.head, step.opacity, inputs.place, inputs.plate)
            head, opacity, place, plate = (each if drawn is None else each[drawn] for each in of_rays)
            places = (place, plate, inputs.frames, counts)
            step.composite, layers = self.portrait.composite(head, opacity, places, pixels)
            step.composite.drawn = drawn
            step.surroundings = (layers, pixels)
        return step.tensors() | {STEP: step}

    def _composited(self, rays: TrainingRays) -> tuple[Int[Tensor, "drawn"] | None, list[int]]:
        """The rays of a step that are composited with torso and background, and how many of each frame: all (None), or
        of a whole picture as many as single rays would be."""
        if not rays.step.windows:
            return None, rays.counts
        return stratified_rays(rays.counts, min(COMPOSITED / len(rays), 1.0), self.device)

    def _render(
        self,
        rays: TrainingRays,
        conditions: Any,
        corrections: Float[Tensor, "frames 6"] | None,
        behind: Float[Tensor, "rays 3"],
    ) -> StepOutputs:
        """Renders the head under the frames' pose corrections, over the colours behind it."""
        if not self.config.refine_poses:
            corrections = None
        return self.head.step(rays, conditions, corrections, behind)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the step's rays, and the mean number of samples per ray."""
        mse = torch.nn.functional.mse_loss(outputs["rgb"].detach(), batch["image"].to(self.device))
        return {"psnr": -10.0 * torch.log10(mse)} | samples_per_ray(outputs)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted losses of head, torso, background and poses."""
        corrections = self.pose_refinement.vectors if self.config.refine_poses else None
        step: StepOutputs = outputs[STEP]
        around = portrait_losses(step, batch, self.config, corrections, self.portrait.torso.codes)
        return self.head.losses(step, batch) | around

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
        self,
        camera: Cameras,
        obb_box: OrientedBox | None = None,
        surroundings: SurroundingsKind = "learned",
        display: DisplayOptions = RUN_DISPLAY,
    ) -> dict[str, Tensor]:
        """Renders a whole picture.

        Args:
            camera: one camera; its time in [0, 1] is the place in the driving sequence (0 without one).
            obb_box: not used; the head fits its box.
            surroundings: torso and background around the head; with `clip`, errors are those of the head alone.
            display: background to show instead of the run's own.

        Returns:
            rgb (H, W, 3) and its opacity (H, W, 1); its layers head, torso and background (H, W, 3), each
            multiplied by its own opacity, and head_opacity, torso_opacity and background_opacity (H, W, 1), with
            rgb = head + (1 - head_opacity) (torso + (1 - torso_opacity) background); and depth, accumulation (the
            head's opacity again, by nerfstudio's name) and audio_motion (H, W, 1).
        """
        with limit_threads(self.device.type):
            return self._picture(camera.to("cpu").flatten(), surroundings, display)

    def _picture(self, camera: Cameras, surroundings: SurroundingsKind, display: DisplayOptions) -> dict[str, Tensor]:
        """`get_outputs_for_camera` of one flat camera on the host, where its numbers are read."""
        frame = self._frame_of(camera)
        around = self.portrait.around(frame, camera, surroundings, display.background)
        outputs = self.head.picture(camera, *self._shown(frame, camera))
        opacity = outputs["head_opacity"] = outputs["accumulation"]
        # rgb first: the viewer shows the first output.
        outputs = {"rgb": outputs["head"] + (1.0 - opacity) * around.colour} | outputs
        return outputs | around.outputs() | {"opacity": opacity + (1.0 - opacity) * around.opacity}

    def _frame_of(self, camera: Cameras) -> int:
        """The frame of the driving sequence at a camera's time."""
        return int(self.frames_of_times(torch.tensor([[self._time_of(camera)]]))[0])

    def _shown(self, frame: int, camera: Cameras) -> tuple[Any, Float[Tensor, "1 6"] | None]:
        """Conditions of the head and the correction of its pose, as a camera sees a frame."""
        pose = camera.camera_to_worlds
        correction = self.pose_refinement.of_pose(pose[0]) if self.config.refine_poses else None
        return self.conditions(torch.tensor([frame]), pose), correction

    @torch.no_grad()
    def video_frame(
        self, camera: Cameras, display: DisplayOptions = RUN_DISPLAY
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The rgb of `get_outputs_for_camera` as the levels of a video's frame, in less time: no layer is kept.

        Args:
            camera: one camera, see there.
            display: background to show instead of the run's own.
        """
        with limit_threads(self.device.type):
            camera = camera.to("cpu").flatten()
            frame, portrait = self._frame_of(camera), self.portrait
            head, opacity = self.head.seen(camera, *self._shown(frame, camera))
            levels = self.ops.portrait_frame(
                head, opacity, portrait.torso_picture(frame, camera), portrait.background(camera, display.background)
            )
            return levels.cpu().numpy()

    @torch.no_grad()
    def surface(self, camera: Cameras, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which point of the head each pixel of a picture shows.

        Args:
            camera: of the picture.
            outputs: of `get_outputs_for_camera`.

        Returns:
            See `rendering.surface.Surface`: canonical (H, W, 3) and mouth (H, W, 1).
        """
        camera = camera.to("cpu").flatten()
        conditions, correction = self._shown(self._frame_of(camera), camera)
        found = seen_surface(self.head, camera, conditions, correction, outputs)
        return {"canonical": found.canonical, "mouth": found.mouth}

    @torch.no_grad()
    def beside(self, camera: Cameras, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which point each pixel of a picture would show if the head reached there.

        Args:
            camera: of the picture.
            outputs: of `get_outputs_for_camera`.

        Returns:
            beside (H, W, 3), see `rendering.surface.beside_head`.
        """
        camera = camera.to("cpu").flatten()
        shown = self._shown(self._frame_of(camera), camera)
        return {"beside": beside_head(self.head, camera, *shown, outputs["accumulation"])}

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
        }
        if "audio_motion" in outputs:
            images["audio_motion"] = outputs["audio_motion"].clamp(0.0, 1.0).expand(-1, -1, 3)
        return metrics, images


def samples_per_ray(outputs: dict[str, Any]) -> dict[str, Tensor]:
    """The metric of that name, of heads whose rays have samples."""
    return {name: outputs[name] for name in ("samples_per_ray",) if name in outputs}
