"""The torso as a moving 2D field: colour and opacity in the clip camera's image plane (RAD-NeRF, section 3.3).

RAD-NeRF deforms image-plane positions by a network of position and head pose and looks up a 2D grid. Here displacement
is linear in the pose: a network gives each position a smooth weight for each of a few motions, and the pose is the
amount of each motion, so that poses between or beyond those of the clip move the torso predictably. Motion independent
of the head pose (breath, a shrug) is a small code of each training frame; without it, breathing blurs the shirt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.field.mlp import FrameMLP, at_least_float32
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import counts_on
from ntalker_ns.training.transfers import CachedNonzero

POSE_DIM = 6
"""Numbers of a head pose: rotation, place in the picture, distance."""

MARGIN = 0.15
"""Margin around the picture, in its widths, for cloth that other frames see beyond the border."""

MOTION_SCALE = 0.1
"""Displacement, in widths of the picture, per unit of the motion network's output: torsos move by a few percent."""

NODES = 65
"""Places along each side of the picture at which motion is known where the torso is shown as a picture: between them it
is as good as linear."""

MEMORY = 10.0
"""Frames after which a trained frame's code has faded to 1/e."""


@dataclass
class TorsoFieldConfig:
    """Sizes of the torso field."""

    num_levels: int = 12
    """Levels of the 2D hash grid, two features each."""
    base_resolution: int = 16
    """Cells along an edge of the coarsest level."""
    max_resolution: int = 512
    """Cells along an edge of the finest level, which spans the picture and its margin. Cells finer than the pixels of
    training are noise in larger pictures."""
    log2_hashmap_size: int = 18
    """Base-2 logarithm of the entries of a hash table level. With fewer entries than the finest level has cells, edges
    of cloth collide with smooth skin."""
    octaves: int = 2
    """Frequencies of the position for the motion network; more let cloth deform in finer ripples."""
    hidden_dim: int = 64
    """Channels of the hidden layers."""
    code_dim: int = 2
    """Channels of the training frames' codes; 0: the torso follows the head pose alone."""


def pose_features(camera_to_worlds: Float[Tensor, "frames 3 4"], upright: Float[Tensor, "3 3"]) -> Tensor:
    """A head pose as six numbers in which torso motion is almost linear.

    Camera positions in head space would mix rotation and translation.

    Args:
        camera_to_worlds: OpenGL, the head at the origin.
        upright: an orientation in the middle of the clip's.

    Returns:
        (frames, 6): the rotation away from `upright` (the sine of its angle along its axis, in camera axes), the
        head's place in the image plane (x right, y up, focal length 1), and the logarithm of its distance.
    """
    rotations = camera_to_worlds[:, :, :3]
    # Autocast's half precision would round small differences between poses away.
    with torch.autocast(rotations.device.type, enabled=False):
        relative = rotations.transpose(1, 2) @ upright
        head = -(rotations.transpose(1, 2) @ camera_to_worlds[:, :, 3:]).squeeze(-1)
    skew = 0.5 * (relative - relative.transpose(1, 2))
    turned = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
    depth = -head[:, 2:]
    return torch.cat([turned, head[:, :2] / depth, depth.log()], dim=-1)


class TorsoField(nn.Module):
    """Colour and opacity of the torso at image-plane positions, under head poses."""

    upright: Tensor
    center: Tensor
    spread: Tensor
    lowest: Tensor
    highest: Tensor
    trained: Tensor

    def __init__(
        self,
        config: TorsoFieldConfig,
        camera_to_worlds: Float[Tensor, "frames 3 4"],
        trained: Bool[Tensor, "frames"],
        ops: Ops,
    ) -> None:
        """
        Args:
            config: sizes.
            camera_to_worlds: tracked poses of the clip's frames.
            trained: which of them are trained on; only those are used.
            ops: computes it.
        """
        super().__init__()
        self.config = config
        poses = camera_to_worlds[trained] if bool(trained.any()) else camera_to_worlds
        upright = poses[len(poses) // 2, :, :3].clone()
        features = pose_features(poses, upright)
        self.register_buffer("upright", upright)
        self.register_buffer("center", features.mean(dim=0))
        self.register_buffer("spread", features.std(dim=0, correction=0) + 1e-4)
        self.register_buffer("lowest", features.amin(dim=0))
        self.register_buffer("highest", features.amax(dim=0))
        self.register_buffer("trained", trained.clone())
        self._trained = CachedNonzero()
        self.codes = nn.Parameter(torch.zeros(len(trained), config.code_dim))
        width = config.hidden_dim
        self.motions = POSE_DIM + config.code_dim
        self.motion_net = FrameMLP(ops, 2 + 4 * config.octaves, 0, width, 3, 2 * self.motions)
        self.grid = HashGrid(
            ops,
            dims=2,
            num_levels=config.num_levels,
            features_per_level=2,
            base_resolution=config.base_resolution,
            max_resolution=config.max_resolution,
            log2_hashmap_size=config.log2_hashmap_size,
        )
        self.color_net = FrameMLP(ops, self.grid.output_width, 0, width, 2, 4)

    def conditions(
        self, camera_to_worlds: Float[Tensor, "frames 3 4"], clip_frames: Int[Tensor, "frames"]
    ) -> Float[Tensor, "frames condition"]:
        """Amounts of each motion: normalised pose features, and the code of the clip frame.

        Args:
            camera_to_worlds: head poses; their features are clamped to the clip's range.
            clip_frames: the clip's frame shown; one that was not trained has the code of the trained frame nearest in
                time, fading with the distance.
        """
        features = pose_features(camera_to_worlds, self.upright)
        features = torch.minimum(torch.maximum(features, self.lowest), self.highest)
        return torch.cat([(features - self.center) / self.spread, self._codes(clip_frames)], dim=-1)

    def _codes(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames code"]:
        known = self._trained.of(self.trained)
        distance, nearest = (frames[:, None] - known).abs().min(dim=1)
        return self.codes[known[nearest]] * torch.exp(-distance / MEMORY)[:, None]

    def forward(
        self,
        places: Float[Tensor, "pixels 2"],
        conditions: Float[Tensor, "frames condition"],
        counts: list[int],
        weights: Float[Tensor, "pixels 2 motions"] | None = None,
    ) -> tuple[Float[Tensor, "pixels 3"], Float[Tensor, "pixels 1"]]:
        """Straight colour in [0, 1] and opacity in [0, 1].

        Args:
            places: x and y in the clip camera's picture, 0 to 1 from its left and upper edge, grouped by frame.
            conditions: of each frame.
            counts: places of each frame.
            weights: of `motion_weights`, where they are known from another frame.
        """
        places = places.clamp(0.0, 1.0)
        weights = self.motion_weights(places) if weights is None else weights
        source = places + displacements(weights, conditions, counts)
        raw = self.color_net(self.grid((source + MARGIN) / (1.0 + 2.0 * MARGIN)), None, counts)
        colour, opacity = torch.sigmoid(at_least_float32(raw)).split([3, 1], dim=1)
        return colour, opacity

    @torch.no_grad()
    def texture(self, width: int, height: int) -> Float[Tensor, "height width 4"]:
        """Everything that any displacement may show: premultiplied colour and opacity over the picture and its margin.

        Args:
            width: px.
            height: px.
        """
        device = self.upright.device
        x, y = ((torch.arange(count, device=device) + 0.5) / count for count in (width, height))
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
        raw = self.color_net(self.grid(places), None, [len(places)])
        colour, opacity = torch.sigmoid(at_least_float32(raw)).split([3, 1], dim=1)
        return torch.cat([opacity * colour, opacity], dim=1).view(height, width, 4)

    @torch.no_grad()
    def node_weights(self) -> Float[Tensor, "places 2 motions"]:
        """The motion weights of `NODES` by `NODES` places, evenly from rim to rim."""
        along = torch.linspace(0.0, 1.0, NODES, device=self.upright.device)
        return self.motion_weights(torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1).view(-1, 2))

    def motion_weights(self, places: Float[Tensor, "pixels 2"]) -> Float[Tensor, "pixels 2 motions"]:
        """How far each motion moves each place: the same in all frames.

        Args:
            places: see `forward`.
        """
        waves = _frequencies(places.clamp(0.0, 1.0), self.config.octaves)
        return self.motion_net(waves, None, [len(places)]).view(-1, 2, self.motions)


def displacements(
    weights: Float[Tensor, "pixels 2 motions"], conditions: Float[Tensor, "frames motions"], counts: list[int]
) -> Float[Tensor, "pixels 2"]:
    """The torso's displacement at each place, in widths and heights of the picture.

    Args:
        weights: of the places, grouped by frame.
        conditions: amount of each motion in each frame.
        counts: places of each frame.
    """
    # Half precision would round places to pixels.
    with torch.autocast(weights.device.type, enabled=False):
        if len(counts) == 1:
            return MOTION_SCALE * (weights.to(conditions.dtype) @ conditions[0])
        repeats = counts_on(tuple(counts), weights.device)
        amounts = conditions.repeat_interleave(repeats, dim=0, output_size=len(weights))
        return MOTION_SCALE * (weights * amounts[:, None]).sum(dim=-1)


def _frequencies(places: Float[Tensor, "pixels 2"], octaves: int) -> Float[Tensor, "pixels channels"]:
    """Positions, and sines and cosines of them at doubling frequencies, half a wave across the picture first."""
    waves = [torch.pi * 2.0**octave * places for octave in range(octaves)]
    return torch.cat([2.0 * places - 1.0, *(f(wave) for wave in waves for f in (torch.sin, torch.cos))], dim=-1)
