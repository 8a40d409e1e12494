"""The torso: a picture that moves, as colour and opacity in the clip camera's image plane (RAD-NeRF, section 3.3).

RAD-NeRF deforms image-plane positions by a network of position and head pose and looks up a 2D grid. Here the
displacement is linear in the pose: a network gives each position its smooth share in each of a few motions, and the
pose says how much of each motion there is. A pose between or beyond those of the clip then moves the torso by a little
and not by a surprise. What the head pose cannot say (breath, a shrug) is a small code of each training frame: without
it, every breath blurs the shirt.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.field.mlp import FrameMLP, at_least_float32
from ntalker_ns.field.ragged import counts_on
from ntalker_ns.training.transfers import CachedNonzero

POSE_DIM = 6
"""Numbers of a head pose: rotation, place in the picture, distance."""

ROOM = 0.15
"""Room around the picture, in its widths, for cloth that other frames see beyond the border."""

MOTION_SCALE = 0.1
"""Displacement, in widths of the picture, for an output of one of the motion network: torsos move by a few percent."""

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
    """Cells along an edge of the finest level, which spans the picture and the room around it. Cells finer than the
    pixels of training are noise in larger pictures."""
    log2_hashmap_size: int = 18
    """Base-2 logarithm of the entries of a hash table level. With fewer than the finest level has cells, sharp edges of
    cloth write into the smooth skin beside them."""
    octaves: int = 2
    """Frequencies of the position that the deformation network sees; more, and cloth deforms in finer ripples."""
    hidden_dim: int = 64
    """Channels of the hidden layers."""
    code_dim: int = 2
    """Channels of the training frames' codes; 0: the torso follows the head pose alone."""
    backend: Literal["auto", "torch", "numba"] = "auto"
    """Implementation of the hash grid and the networks, see `TalkerFieldConfig`."""


def pose_features(camera_to_worlds: Float[Tensor, "frames 3 4"], upright: Float[Tensor, "3 3"]) -> Tensor:
    """A head pose as six numbers that torsos follow almost linearly.

    Camera positions in head space would mix turning and moving: they follow a head that turns on the spot.

    Args:
        camera_to_worlds: OpenGL, the head at the origin.
        upright: an orientation in the middle of the clip's.

    Returns:
        (frames, 6): the rotation away from `upright` (the sine of its angle along its axis, in camera axes), the
        head's place in the image plane (x right, y up, focal length 1), and the logarithm of its distance.
    """
    rotations = camera_to_worlds[:, :, :3]
    # Poses differ by little: the half precision of autocast would round that away.
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
    ) -> None:
        """
        Args:
            config: sizes.
            camera_to_worlds: tracked poses of the clip's frames.
            trained: which of them are trained on; only those are looked at.
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
        self._known = CachedNonzero()
        self.codes = nn.Parameter(torch.zeros(len(trained), config.code_dim))
        width = config.hidden_dim
        self.motions = POSE_DIM + config.code_dim
        self.motion_net = FrameMLP(2 + 4 * config.octaves, 0, width, 3, 2 * self.motions, config.backend)
        self.grid = HashGrid(
            dims=2,
            num_levels=config.num_levels,
            features_per_level=2,
            base_resolution=config.base_resolution,
            max_resolution=config.max_resolution,
            log2_hashmap_size=config.log2_hashmap_size,
            backend=config.backend,
        )
        self.color_net = FrameMLP(self.grid.output_width, 0, width, 2, 4, config.backend)

    def conditions(
        self, camera_to_worlds: Float[Tensor, "frames 3 4"], clip_frames: Int[Tensor, "frames"]
    ) -> Float[Tensor, "frames condition"]:
        """What moves the torso: normalised pose numbers, and the code of the clip frame that is shown.

        Args:
            camera_to_worlds: head poses; beyond the clip's they count as the nearest of them, number by number.
            clip_frames: the clip's frame shown; one that was not trained has the code of the trained frame nearest in
                time, fading with the distance: breath goes on for a moment and is then forgotten.
        """
        features = pose_features(camera_to_worlds, self.upright)
        features = torch.minimum(torch.maximum(features, self.lowest), self.highest)
        return torch.cat([(features - self.center) / self.spread, self._codes(clip_frames)], dim=-1)

    def _codes(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames code"]:
        known = self._known.of(self.trained)
        distance, nearest = (frames[:, None] - known).abs().min(dim=1)
        return self.codes[known[nearest]] * torch.exp(-distance / MEMORY)[:, None]

    def forward(
        self,
        places: Float[Tensor, "pixels 2"],
        conditions: Float[Tensor, "frames condition"],
        counts: list[int],
        shares: Float[Tensor, "pixels 2 motions"] | None = None,
    ) -> tuple[Float[Tensor, "pixels 3"], Float[Tensor, "pixels 1"]]:
        """Straight colour in [0, 1] and opacity in [0, 1].

        Args:
            places: x and y in the clip camera's picture, 0 to 1 from its left and upper edge, grouped by frame.
            conditions: of each frame.
            counts: places of each frame.
            shares: of the places, where they are known from another frame.
        """
        places = places.clamp(0.0, 1.0)
        shares = self.shares(places) if shares is None else shares
        source = places + displacements(shares, conditions, counts)
        raw = self.color_net(self.grid((source + ROOM) / (1.0 + 2.0 * ROOM)), None, counts)
        colour, opacity = torch.sigmoid(at_least_float32(raw)).split([3, 1], dim=1)
        return colour, opacity

    def shares(self, places: Float[Tensor, "pixels 2"]) -> Float[Tensor, "pixels 2 motions"]:
        """How far each motion moves what is seen at a place: the same in all frames.

        Args:
            places: see `forward`.
        """
        waves = _frequencies(places.clamp(0.0, 1.0), self.config.octaves)
        return self.motion_net(waves, None, [len(places)]).view(-1, 2, self.motions)


def displacements(
    shares: Float[Tensor, "pixels 2 motions"], conditions: Float[Tensor, "frames motions"], counts: list[int]
) -> Float[Tensor, "pixels 2"]:
    """From where the torso came to each place, in widths and heights of the picture.

    Args:
        shares: of the places, grouped by frame.
        conditions: how much of each motion there is in each frame.
        counts: places of each frame.
    """
    # In half precision places would be rounded to pixels.
    with torch.autocast(shares.device.type, enabled=False):
        if len(counts) == 1:
            return MOTION_SCALE * (shares.to(conditions.dtype) @ conditions[0])
        repeats = counts_on(tuple(counts), shares.device)
        amounts = conditions.repeat_interleave(repeats, dim=0, output_size=len(shares))
        return MOTION_SCALE * (shares * amounts[:, None]).sum(dim=-1)


def _frequencies(places: Float[Tensor, "pixels 2"], octaves: int) -> Float[Tensor, "pixels channels"]:
    """Positions, and sines and cosines of them at doubling frequencies, half a wave across the picture first."""
    waves = [torch.pi * 2.0**octave * places for octave in range(octaves)]
    return torch.cat([2.0 * places - 1.0, *(f(wave) for wave in waves for f in (torch.sin, torch.cos))], dim=-1)
