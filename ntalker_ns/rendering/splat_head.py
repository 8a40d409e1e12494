"""A head of Gaussians, rasterised picture by picture."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor, nn
from torch.optim import Optimizer

from ntalker_ns.data.head_removal import HEAD, LIPS
from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.data.training_rays import PixelWindow, TrainingRays
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.shell import MOUTH, FaceShell
from ntalker_ns.field.pose_refinement import PoseRefinement
from ntalker_ns.field.torso_field import pose_features
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.poses import rotation_matrices
from ntalker_ns.kernels.types import FaceState, Gate, Gaussians, Raster, SplatView
from ntalker_ns.media.pixels import from_uint8
from ntalker_ns.rendering.head import FaceInputs, Head
from ntalker_ns.rendering.losses import FaceSurface, StepOutputs
from ntalker_ns.splats.gaussians import LIGHTS, HeadGaussians, Motion, SplatConditions, training_bytes
from ntalker_ns.splats.relocation import relocate
from ntalker_ns.splats.start import SeenHead, fill_behind, unproject
from ntalker_ns.training.transfers import to_device
from ntalker_ns.training.versioned import Snapshot

OTHERS = 10
"""Frames besides the main one that Gaussians are placed on."""

FRACTIONS = (0.60, 0.15, 0.10, 0.15)
"""Fractions of the Gaussians that start on the main frame, on the others, in the mouth, and behind the main frame's
surface."""

OVERLAP = 0.6
"""Standard deviation of a Gaussian at the start over the distance to the next."""

DEEP = 0.3
"""How far inside of the mouth Gaussians start, over the distance between the eyes."""

THICK = 0.1
"""Thickness of the Gaussians behind the surface, over the same."""

COVER = 8.0
"""Optical depth of the Gaussians behind the surface: they fill what no frame shows."""

DENSE = 0.5
"""Gaussians for a pixel that an edit adds to the head."""

RELOCATED = 0.75
"""Part of the training during which Gaussians move to where the picture is wrong."""


@dataclass
class SplatConfig:
    """A head of Gaussians."""

    num_gaussians: int = 20_000
    """Gaussians of the head. 10,000 show a face at 256 px; time and memory grow with their number."""
    relocation_interval: int = 150
    """Steps between relocations of transparent Gaussians to regions of large error."""
    absolute_weight: float = 0.2
    """Weight of the absolute error of colours beside the squared one."""
    lip_weight: float = 6.0
    """Weight of pixels of the lips and the mouth; others weigh 1."""
    splat_mask_weight: float = 1.0
    """Weight of the squared difference between the opacity and how much of the pixel the head covers."""
    hair_weight: float = 2.0
    """Weight of pixels of the head outside of the face's box."""
    shell_weight: float = 0.003
    """Weight of the squared distance between Gaussians and the tracked face's surface, in units of the distance between
    the eyes, where it is larger than 0.3."""

    def check(self) -> None:
        """
        Raises:
            NTalkerError: a number is out of range.
        """
        for name, value, least in (
            ("num-gaussians", self.num_gaussians, 100),
            ("relocation-interval", self.relocation_interval, 1),
        ):
            if value < least:
                raise NTalkerError(f"--pipeline.model.{name} must be at least {least}, not {value}.")

    def check_memory(self, controls: int) -> None:
        """
        Args:
            controls: numbers that move the Gaussians.

        Raises:
            NTalkerError: this machine has not the memory for them.
        """
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        needed = training_bytes(self.num_gaussians, controls)
        if needed > there:
            raise NTalkerError(
                f"--pipeline.model.num-gaussians {self.num_gaussians} takes {needed / 1e9:.1f} GB to train, and this "
                f"machine has {there / 1e9:.1f}: 10,000 to 50,000 are enough for a head."
            )


class SplatHead(Head):
    """Gaussians, and the light that falls on them by the head's pose."""

    reach = 1.5
    placed: Tensor
    upright: Tensor
    pose_mean: Tensor
    pose_spread: Tensor
    pose_lowest: Tensor
    pose_highest: Tensor

    def __init__(self, config: SplatConfig, sequence: DrivingSequence, ops: Ops) -> None:
        """
        Args:
            config: number and weights.
            sequence: the clip's, or a replay of it.
            ops: rasterise.

        Raises:
            NTalkerError: a number is out of range.
        """
        super().__init__()
        config.check()
        config.check_memory(len(sequence.rig.lip_basis) + len(sequence.rig.brow_basis) + 1)
        self.config, self.sequence, self.rig, self.ops = config, sequence, sequence.rig, ops
        self.gaussians = HeadGaussians(config.num_gaussians, sequence.rig, ops)
        self.register_buffer("placed", torch.tensor(False))
        self.register_buffer("upright", torch.eye(3))
        for name, value in (("mean", 0.0), ("spread", 1.0), ("lowest", 0.0), ("highest", 0.0)):
            self.register_buffer(f"pose_{name}", torch.full((LIGHTS,), value))
        self._screen_gradient = torch.zeros(config.num_gaussians)
        self._progress = 0.0
        self._motion: tuple[Snapshot, Motion] | None = None
        self.set_face(None)

    @property
    def interval(self) -> int:
        """Of relocations."""
        return self.config.relocation_interval

    @property
    def fitted(self) -> bool:
        """Whether the Gaussians were placed."""
        return bool(self.placed)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """The Gaussians at rest, and what changes of them with the face and the pose."""
        return {"gaussians": [self.gaussians.base], "motion": [self.gaussians.deltas, self.gaussians.shading]}

    def set_face(self, shell: FaceShell | None) -> None:
        """Sets the depth at which Gaussians start and are held.

        Args:
            shell: around the tracked face; None: unknown.
        """
        self.shell = shell
        self._surface = None
        if shell is not None:
            depth = torch.from_numpy(shell.surface).float().to(self.upright.device)
            self._surface = FaceSurface(depth, shell.unit, self.ops)

    def fit_to_clip(self, dataset: Any) -> None:
        """Places the Gaussians on the training frames, and measures the poses that light depends on."""
        device, track = self.upright.device, self.sequence.track
        trained = np.asarray(dataset.frame_indices)
        poses = torch.from_numpy(track.camera_to_worlds[trained])
        self.upright.copy_(poses[len(poses) // 2, :, :3])
        features = pose_features(poses, self.upright.cpu())
        self.pose_mean.copy_(features.mean(dim=0))
        self.pose_spread.copy_(features.std(dim=0, correction=0) + 1e-4)
        scaled = ((features - features.mean(dim=0)) / (features.std(dim=0, correction=0) + 1e-4)).to(device)
        self.pose_lowest.copy_(scaled.amin(dim=0))
        self.pose_highest.copy_(scaled.amax(dim=0))
        # The frame nearest to the mean pose, with open eyes.
        cost = scaled.square().sum(dim=1).cpu().numpy() + 4.0 * (1.0 - track.eye_openness[trained]) ** 2
        attributes = self._start(dataset, int(cost.argmin())).to(device)
        self.gaussians.place(attributes, torch.arange(len(attributes), device=device))
        self.placed.fill_(True)

    def _start(self, dataset: Any, main: int) -> Float[Tensor, "n columns"]:
        """Attributes of all Gaussians in the mean face."""
        rng, track = np.random.default_rng(0), self.sequence.track
        keypoints, unit = self.sequence.rig.keypoints, self.sequence.rig.eye_distance
        surface = self.depth_surface()
        on_others, in_mouth, behind = (round(share * self.config.num_gaussians) for share in FRACTIONS[1:])
        others = rng.choice(len(dataset), min(OTHERS, len(dataset)), replace=False)
        opening = np.nan_to_num(track.mouth_opening[np.asarray(dataset.frame_indices)])
        spoken = np.argsort(opening)[-max(len(opening) // 20, 1) :][:OTHERS]
        covered = int((dataset.store().frame(main).labels >= HEAD).sum())
        size = OVERLAP * math.sqrt(max(covered, 1) / (FRACTIONS[0] * self.config.num_gaussians))

        def on_frame(frame: int, label: int, count: int, deeper: float) -> Tensor:
            seen, which = self._seen(dataset, frame, label)
            return self._in_mean_face(unproject(seen, count, size, surface, deeper, rng), which)

        parts = [on_frame(int(frame), HEAD, on_others // len(others), 0.0) for frame in others]
        parts += [on_frame(int(frame), LIPS, in_mouth // len(spoken), DEEP * unit) for frame in spoken]
        seen, which = self._seen(dataset, main, HEAD)
        hidden = self._in_mean_face(fill_behind(seen, behind, COVER, surface, THICK * unit, rng), which)
        # What opens behind the lips is seen, and learned.
        mouth = torch.from_numpy(keypoints["mouth"]).to(hidden)
        parts.append(hidden[(hidden[:, :3] - mouth).norm(dim=1) > MOUTH * unit])
        parts.append(on_frame(main, HEAD, self.config.num_gaussians - sum(map(len, parts)), 0.0))
        attributes = torch.cat(parts)
        if len(attributes) < self.config.num_gaussians:
            raise NTalkerError("No pixel of the training frames is labelled as head: process the clip again.")
        return attributes

    def _seen(self, dataset: Any, index: int, label: int) -> tuple[SeenHead, int]:
        """The pixels of one training frame whose label is at least this, and its index in the driving sequence."""
        frame, which = dataset.store().frame(index), int(dataset.frame_indices[index])
        pose = self.sequence.track.camera_to_worlds[which]
        intrinsics = self.sequence.camera.resized(dataset.size).intrinsics
        return SeenHead(from_uint8(frame.image), frame.labels >= label, pose, intrinsics), which

    def _in_mean_face(self, placed: Float[Tensor, "n columns"], frame: int) -> Float[Tensor, "n columns"]:
        """Gaussians of a frame warped to canonical space, the mean face with open eyes."""
        track, placed = self.sequence.track, placed.to(self.upright.device)
        numbers = (track.lip_shapes, track.brow_shapes, track.eye_openness)
        lips, brows, eyes = (torch.from_numpy(each[frame][None]).to(placed) for each in numbers)
        positions = placed[:, :3].contiguous()
        speech = self.ops.gate(positions, self.gaussians.speech_gate)
        shift, _ = self.ops.inverse_warp(positions, speech, [len(positions)], self.gaussians.face(lips, brows, eyes))
        return torch.cat([positions + shift, placed[:, 3:]], dim=1)

    @torch.no_grad()
    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """Places Gaussians that show nothing where the head is missing, at the depth of the face's shell."""
        spare = self.gaussians.transparent().nonzero().squeeze(-1)
        chosen = sorted(views, key=lambda view: -int(view.missing.sum()))[:OTHERS]
        pixels = np.array([int(view.missing.sum()) for view in chosen])
        # Every frame shows the same of it.
        wanted = min(len(spare), round(DENSE * pixels.max(initial=0)))
        size = OVERLAP * math.sqrt(pixels.max(initial=0) / max(wanted, 1))
        rng, surface, parts = np.random.default_rng(0), self.depth_surface(), []
        for view, share in zip(chosen, pixels / max(pixels.sum(), 1), strict=True):
            if count := int(wanted * share):
                seen = SeenHead(view.image, view.missing, view.camera_to_world, view.intrinsics)
                parts.append(self._in_mean_face(unproject(seen, count, size, surface, 0.0, rng), view.frame))
        if parts:
            attributes = torch.cat(parts)
            self.gaussians.place(attributes, spare[: len(attributes)])

    def before_step(self, progress: float) -> None:
        """Notes the progress, after which Gaussians stay where they are."""
        self._progress = progress

    def conditions(self, face: FaceInputs, poses: PoseRefinement) -> SplatConditions:
        """Lips, brows, closed eyes, and the light by the pose."""
        if face.seen_from.ndim == 1:
            cameras = poses.tracked[face.seen_from]
        else:
            cameras = to_device(face.seen_from, self.upright.device)
        light = (pose_features(cameras, self.upright) - self.pose_mean) / self.pose_spread
        light = self._as_filmed(light)
        controls = torch.cat([face.lip_shapes, face.brow_shapes, 1.0 - face.eye_openness], dim=1)
        return SplatConditions(controls, light)

    def _as_filmed(self, light: Float[Tensor, "frames lights"]) -> Float[Tensor, "frames lights"]:
        """The light of poses; beyond those of the training frames it fades to the mean pose's, for what Gaussians look
        like there nothing has taught."""
        bound = torch.where(light < 0.0, self.pose_lowest, self.pose_highest).abs().clamp(min=1e-3)
        beyond = (light.abs() / bound).amax(dim=1, keepdim=True).clamp(min=1.0)
        return torch.minimum(torch.maximum(light, self.pose_lowest), self.pose_highest) / beyond.square()

    def _moved(self, conditions: SplatConditions, frame: int) -> Gaussians:
        """The Gaussians of one of some frames; what depends on their rest alone is kept while that stays."""
        key = Snapshot([self.gaussians.base])
        if self._motion is None or self._motion[0] != key:
            self._motion = (key, self.gaussians.motion())
        return self.gaussians(conditions.controls[frame], conditions.light[frame], self._motion[1])

    def step(
        self,
        rays: TrainingRays,
        conditions: SplatConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        behind: Float[Tensor, "rays 3"],
    ) -> StepOutputs:
        """Rasterises the windows of a step.

        Raises:
            NTalkerError: its rays are no windows.
        """
        windows = rays.step.windows
        if not windows:
            raise NTalkerError(
                "A head of Gaussians trains on whole frames or patches: set --pipeline.datamanager.whole-frames True."
            )
        gradient = self._screen_gradient = self._screen_gradient.to(self.upright.device)
        rasters = []
        for frame, window in enumerate(windows):
            correction = None if corrections is None else corrections[frame]
            view = view_of(window, correction)
            rasters.append(
                self.ops.rasterise(self._moved(conditions, frame), view, gradient if self.training else None)
            )
        colour = torch.cat([raster.colour.view(-1, 3) for raster in rasters])
        opacity = torch.cat([raster.opacity.view(-1, 1) for raster in rasters])
        depth = torch.cat([raster.depth.view(-1, 1) for raster in rasters])
        return StepOutputs(head=colour, opacity=opacity, depth=depth, rgb=colour + (1.0 - opacity) * behind)

    def losses(self, step: StepOutputs, batch: Mapping[str, Any]) -> dict[str, Float[Tensor, ""]]:
        """Squared and absolute error of colours, the mask's error, and `regularizers`."""
        image, labels = batch["image"].to(step.rgb.device), batch["labels"].to(step.rgb.device)
        weight = 1.0 + (self.config.lip_weight - 1.0) * (labels >= LIPS).float()
        weight += (self.config.hair_weight - 1.0) * ((labels >= HEAD) & ~_in_boxes(batch).to(labels.device)).float()
        error = step.rgb - image
        per_pixel = error.square().mean(dim=-1) + self.config.absolute_weight * error.abs().mean(dim=-1)
        wrong = step.opacity.squeeze(-1) - batch["coverage"].to(labels.device)
        losses = {
            "rgb": (weight * per_pixel).mean(),
            "mask": self.config.splat_mask_weight * wrong.square().mean(),
        }
        return losses | self.regularizers(step)

    def regularizers(self, step: StepOutputs) -> dict[str, Float[Tensor, ""]]:
        """The Gaussians' distance from the tracked face."""
        surface = self._surface
        if surface is None or not self.config.shell_weight:
            return {}
        base, rates = self.gaussians.base, self.gaussians.rates
        squared = surface.ops.squared_distance(base[:, :3] * rates[:3], surface.depth)
        opacity = torch.sigmoid(base[:, 10].detach() * rates[10])
        away = torch.relu(squared / surface.unit**2 - DEEP**2)
        return {"surface_distance": self.config.shell_weight * (opacity * away).mean()}

    @torch.no_grad()
    def adapt(self, conditions: SplatConditions, optimizers: Mapping[str, Optimizer]) -> None:
        """Moves Gaussians that show nothing."""
        # An edit does not train their motion.
        of_gaussians = [optimizers[name] for name in self.param_groups() if name in optimizers]
        if self._progress < RELOCATED and of_gaussians:
            relocate(self.gaussians, self._screen_gradient.to(self.upright.device), of_gaussians)
        self._screen_gradient.zero_()

    @torch.no_grad()
    def picture(
        self, camera: Cameras, conditions: SplatConditions, correction: Float[Tensor, "1 6"] | None
    ) -> dict[str, Tensor]:
        """The head's layer of a picture.

        Raises:
            NTalkerError: the camera is no pinhole.
        """
        view = self._view(camera, correction)
        return head_layers(self.ops.rasterise(self._moved(conditions, 0), view), view)

    def face(self, conditions: SplatConditions) -> tuple[Gate, FaceState]:
        """The Gaussians' gate of speech, and their landmarks and lids."""
        rig, controls = self.sequence.rig, conditions.controls
        lips, brows, closed = controls.split([len(rig.lip_basis), len(rig.brow_basis), 1], dim=1)
        return self.gaussians.speech_gate, self.gaussians.face(lips, brows, 1.0 - closed.squeeze(1))

    def empty_depth(self, camera: Cameras) -> Float[Tensor, "height width 1"]:
        """The same for all pixels."""
        view = self._view(camera, None)
        return (view.world_to_camera[:, 3].norm() + FAR / math.sqrt(3.0)).expand(view.height, view.width, 1)

    @torch.no_grad()
    def seen(
        self, camera: Cameras, conditions: SplatConditions, correction: Float[Tensor, "1 6"] | None
    ) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
        """Colour and opacity alone; raises as `picture` does."""
        raster = self.ops.rasterise(self._moved(conditions, 0), self._view(camera, correction))
        return raster.colour, raster.opacity

    def _view(self, camera: Cameras, correction: Float[Tensor, "1 6"] | None) -> SplatView:
        """A camera on the host, under a correction of its pose."""
        plain = camera.distortion_params is None or not bool(camera.distortion_params.any())
        if int(camera.camera_type[0]) != CameraType.PERSPECTIVE.value or not plain:
            raise NTalkerError("Heads of Gaussians are shown by pinhole cameras without distortion only.")
        focal, centre = (
            (float(across), float(down)) for across, down in ((camera.fx, camera.fy), (camera.cx, camera.cy))
        )
        size = (int(camera.width), int(camera.height))
        window = PixelWindow(camera.camera_to_worlds[0], focal, centre, size)
        view = view_of(window, None if correction is None else correction[0])
        return replace(view, world_to_camera=to_device(view.world_to_camera, self.upright.device))


def _in_boxes(batch: Mapping[str, Any]) -> Bool[Tensor, "rays"]:
    """Which pixels lie in their frame's face box."""
    places = batch["indices"][:, [2, 1]].view(len(batch["face_boxes"]), -1, 2)
    low, high = batch["face_boxes"][:, None].split(2, dim=-1)
    return ((places >= low) & (places < high)).all(dim=-1).view(-1)


def view_of(window: PixelWindow, correction: Float[Tensor, "6"] | None) -> SplatView:
    """The camera of a window under a correction of its pose; differentiable in the correction.

    Args:
        window: part of a picture.
        correction: rotation vector and translation of points in the head's space, see `correct_poses`; None: none.
    """
    turn, place = window.camera_to_world[:, :3], window.camera_to_world[:, 3]
    rotation, shift = turn.T, -(turn.T @ place)
    if correction is not None:
        # x' = R x + t, and the Gaussians are where x' is.
        rotation = rotation @ rotation_matrices(correction[None, :3])[0].T
        shift = shift - rotation @ correction[3:]
    matrix = torch.cat([rotation, shift[:, None]], dim=1)
    return SplatView(matrix, *window.focal, *window.centre, *window.size)


FAR = 2.0
"""Depth where there is no head, world units beyond the head's middle."""


def head_layers(raster: Raster, view: SplatView) -> dict[str, Tensor]:
    """A raster by the names of outputs; depth along the rays, as of the radiance field."""
    x, y = (
        (torch.arange(count, device=raster.depth.device) + (0.5 - middle)) / focal
        for count, middle, focal in ((view.width, view.cx, view.fx), (view.height, view.cy, view.fy))
    )
    lengths = torch.sqrt(1.0 + x.square() + y.square()[:, None])
    far = view.world_to_camera[:, 3].norm() + FAR / math.sqrt(3.0)
    depth = raster.depth * lengths + (1.0 - raster.opacity) * far
    opacity = raster.opacity[..., None]
    # Colours of Gaussians have no bounds, and viewers make bytes of pictures without looking.
    return {"depth": depth[..., None], "accumulation": opacity, "head": raster.colour.clamp(min=0.0).minimum(opacity)}
