"""The surroundings of the head: torso field and background, trained beside the head and composited under it.

All colours here are premultiplied by their opacity, so that layers add up exactly:
rgb = head + (1 - head_opacity) (torso + (1 - torso_opacity) background).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from ntalker_ns.data.training_rays import SurroundingsPixels
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.field.torso_field import MARGIN, NODES, TorsoField, TorsoFieldConfig, displacements
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import Subset, compact
from ntalker_ns.kernels.types import MovingPicture
from ntalker_ns.rendering.background import Background, LearnedBackground
from ntalker_ns.rendering.image_plane import ImagePlane, columns_of, places_of
from ntalker_ns.rendering.static_cache import lens
from ntalker_ns.training.transfers import DeviceCopy, to_device
from ntalker_ns.training.versioned import Snapshot

SurroundingsKind = Literal["learned", "clip"]
"""The learned torso and background, or the clip's own frame without its head."""

DETAIL = 2
"""Pixels of the torso's picture for a cell of its finest grid: between the cells' corners it is not linear."""

OPAQUE = 0.98
"""Opacity of the head above which nothing behind it is computed."""


@dataclass
class PortraitConfig:
    """Torso and background."""

    torso: TorsoFieldConfig = field(default_factory=TorsoFieldConfig)
    """Sizes of the torso field."""
    background: str = "plate"
    """Background of rendered pictures: plate (the clip's own), transparent, a colour (a name or
    #rrggbb), or a picture file."""
    background_size: int = 256
    """Longest side, in px, of the learned picture that is added to the plate."""


@dataclass
class Surroundings:
    """Torso and background; colours premultiplied."""

    torso: Float[Tensor, "*shape 3"]
    torso_opacity: Float[Tensor, "*shape 1"]
    background: Float[Tensor, "*shape 3"]
    background_opacity: Float[Tensor, "*shape 1"]

    @property
    def colour(self) -> Float[Tensor, "*shape 3"]:
        """Torso over background."""
        return self.torso + (1.0 - self.torso_opacity) * self.background

    @property
    def opacity(self) -> Float[Tensor, "*shape 1"]:
        """Of both together."""
        return self.torso_opacity + (1.0 - self.torso_opacity) * self.background_opacity

    def split(self, counts: list[int]) -> list["Surroundings"]:
        """Splits by numbers of pixels."""
        layers = (self.torso, self.torso_opacity, self.background, self.background_opacity)
        return [Surroundings(*part) for part in zip(*(layer.split(counts) for layer in layers), strict=True)]

    def outputs(self) -> dict[str, Tensor]:
        """The layers by the names of outputs."""
        names = ("torso", "torso_opacity", "background", "background_opacity")
        return {name: getattr(self, name) for name in names}


@dataclass
class CompositeRays:
    """Head, torso and background composited, where the head is not opaque."""

    rgb: Float[Tensor, "subset 3"]
    subset: Subset
    """Which of the drawn rays."""
    drawn: Int[Tensor, "drawn"] | None = None
    """Which of the step's rays; None: all."""


Places = tuple[Float[Tensor, "pixels 2"], Float[Tensor, "pixels 3"], Int[Tensor, "frames"], list[int]]
"""The arguments of `Portrait.at`."""


class Portrait(nn.Module):
    """Torso field and learned background of a clip, and the background that is shown."""

    def __init__(self, config: PortraitConfig, sequence: DrivingSequence, ops: Ops) -> None:
        """
        Args:
            config: sizes and weights.
            sequence: the clip's, or a replay of it (a checkpoint then brings the missing poses).
            ops: compute the torso.
        """
        super().__init__()
        self.config, self.ops = config, ops
        self.torso = TorsoField(config.torso, *_clip_poses(sequence), ops)
        scale = config.background_size / max(sequence.camera.width, sequence.camera.height)
        self.learned = LearnedBackground((round(sequence.camera.width * scale), round(sequence.camera.height * scale)))
        self.set_background(config.background)
        self.set_driving(sequence)

    def set_driving(self, sequence: DrivingSequence) -> None:
        """Takes head poses and replayed frames from another sequence."""
        self._poses = DeviceCopy(torch.from_numpy(sequence.track.camera_to_worlds))
        self._clip_frames = DeviceCopy(torch.from_numpy(sequence.track.replay))
        self.image_plane = ImagePlane(sequence)
        self._kept: dict[str, tuple[Any, Tensor]] = {}

    def driven(self) -> tuple[Any, ...]:
        """What `set_driving` has set, for `drive_again`."""
        return self._poses, self._clip_frames, self.image_plane, self._kept

    def drive_again(self, driven: tuple[Any, ...]) -> None:
        """Takes back what `driven` gave."""
        self._poses, self._clip_frames, self.image_plane, self._kept = driven

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.torso.upright.device

    def set_background(self, background: str) -> None:
        """Sets the background of rendered pictures.

        Args:
            background: see `PortraitConfig.background`.

        Raises:
            NTalkerError: it is neither a file nor a colour.
        """
        self.choice = Background.parse(background)

    def at(
        self,
        places: Float[Tensor, "pixels 2"],
        plate: Float[Tensor, "pixels 3"],
        frames: Int[Tensor, "frames"],
        counts: list[int],
    ) -> Surroundings:
        """Torso and background at places of some frames, over the learned plate.

        Args:
            places: x and y in the clip camera's picture, 0 to 1, grouped by frame.
            plate: the plate's colours there.
            frames: of the driving sequence.
            counts: places of each frame.
        """
        there = to_device(frames, places.device)
        poses, clip_frames = (known.on(places.device)[there] for known in (self._poses, self._clip_frames))
        torso, opacity = self.torso(places, self.torso.conditions(poses, clip_frames), counts)
        return Surroundings(opacity * torso, opacity, self.learned(places, plate), torch.ones_like(opacity))

    def _still(self, name: str, key: Any, learned: nn.Module, make: Callable[[], Any]) -> Any:
        """A value that all frames share, cached until its key or the parameters change."""
        key = (key, Snapshot(learned.parameters()), self.device)
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return self._kept[name][1]

    @torch.no_grad()
    def around(
        self, frame: int, camera: Cameras, kind: SurroundingsKind = "learned", chosen: Background | None = None
    ) -> Surroundings:
        """Torso and background as a camera sees them.

        Args:
            frame: of the driving sequence.
            camera: one flat camera, on the host; its pose is not used: free cameras do not move the torso.
            kind: learned, with a background, or the clip's.
            chosen: the background; None: that of `set_background`.

        Returns:
            Layers of shape (height, width, channels).
        """
        if kind == "clip":
            true = self.image_plane.behind(frame, camera, self.device)
            full = torch.ones_like(true[..., :1])
            return Surroundings(true, full, torch.zeros_like(true), full)
        torso, opacity = self.ops.moved_picture(self.torso_picture(frame, camera)).split([3, 1], dim=-1)
        choice = self.choice if chosen is None else chosen
        background = self.background(camera, choice)
        present = torch.full_like(background[..., :1], float(choice.kind != "transparent"))
        return Surroundings(torso, opacity, background * present, present)

    @torch.no_grad()
    def torso_picture(self, frame: int, camera: Cameras) -> MovingPicture:
        """The torso of a frame as a picture that moves with the head's pose.

        The torso field's values at all places are computed once; displacements are known at `NODES`, and linear
        between them.

        Args:
            frame: of the driving sequence.
            camera: as of `around`.
        """
        side = DETAIL * self.torso.config.max_resolution
        texture = self._still("texture", None, self.torso, lambda: self.torso.texture(side, side))
        weights = self._still("weights", None, self.torso.motion_net, self.torso.node_weights)
        there = to_device(torch.tensor([frame]), self.device)
        poses, clip_frames = (known.on(self.device)[there] for known in (self._poses, self._clip_frames))
        shifts = displacements(weights, self.torso.conditions(poses, clip_frames), [len(weights)])
        x, y = self._still("columns", lens(camera), self.learned, lambda: self._columns(camera))
        return MovingPicture(texture, MARGIN, shifts.view(NODES, NODES, 2), x, y)

    def _columns(self, camera: Cameras) -> tuple[Float[Tensor, "width"], Float[Tensor, "height"]]:
        return columns_of(self.image_plane.sequence.camera, camera, self.device)

    @torch.no_grad()
    def background(self, camera: Cameras, chosen: Background | None = None) -> Float[Tensor, "height width 3"]:
        """A background as a camera sees it, in [0, 1]; black where it is transparent.

        Args:
            camera: as of `around`.
            chosen: the background; None: that of `set_background`.
        """
        choice = self.choice if chosen is None else chosen
        if choice.picture is not None:
            return self.image_plane.cover(choice.picture, camera, self.device)
        if choice.kind == "plate":
            return self._still("plate", lens(camera), self.learned, lambda: self._plate(camera))
        size = (int(camera.height), int(camera.width))
        return torch.tensor(choice.colour, device=self.device).expand(*size, 3)

    def _plate(self, camera: Cameras) -> Float[Tensor, "height width 3"]:
        places = places_of(self.image_plane.sequence.camera, camera, self.device)
        return self.learned(places, self.image_plane.plate(camera, self.device)).clamp(0.0, 1.0)

    def composite(
        self,
        head: Float[Tensor, "rays 3"],
        opacity: Float[Tensor, "rays 1"],
        places: Places,
        pixels: SurroundingsPixels,
    ) -> tuple[CompositeRays, Surroundings]:
        """Head, torso and background along training rays where the head is not opaque, and torso and background at
        other pixels.

        The head itself is trained over the clip's own torso and background; here all three meet. Both in one batch:
        launching networks and grids costs as much as thousands of pixels.

        Args:
            head: premultiplied.
            opacity: of the head.
            places: of the rays, as for `at`.
            pixels: the others.
        """
        place, plate, frames, counts = places
        subset = compact(opacity.detach().squeeze(-1) < OPAQUE, counts)
        place, plate = subset.of(place), subset.of(plate)
        behind, layers = self.at(
            torch.cat([place, pixels.place]),
            torch.cat([plate, pixels.plate]),
            torch.cat([frames, pixels.frames]),
            subset.counts + pixels.counts,
        ).split([len(place), len(pixels.place)])
        rgb = subset.of(head) + (1.0 - subset.of(opacity)) * behind.colour
        return CompositeRays(rgb, subset), layers


def _clip_poses(sequence: DrivingSequence) -> tuple[Float[Tensor, "clip 3 4"], Tensor]:
    """Poses of the clip's frames, and which of them are known training frames."""
    poses = torch.zeros(sequence.num_clip_frames, 3, 4)
    poses[torch.from_numpy(sequence.track.replay)] = torch.from_numpy(sequence.track.camera_to_worlds)
    trained = torch.from_numpy(sequence.clip_is_train).clone()
    return poses, trained & (poses.abs().sum(dim=(1, 2)) > 0)
