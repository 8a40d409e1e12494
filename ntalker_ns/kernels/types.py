"""Data that operations take and return, the same for all backends."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.kernels.grid_layout import GridLayout
from ntalker_ns.training.transfers import to_device

MIN_DIRECTION = 1e-9
"""Components of unit directions are raised to this: a ray parallel to two faces of a box never leaves through them."""

MIN_TRANSMITTANCE = 1e-4
"""Samples behind which less light than this passes have weight 0."""

NEAR_PLANE = 0.01
"""Gaussians nearer to the camera than this are not drawn, world units."""

LOW_PASS = 0.3
"""Variance that is added to projected Gaussians, px^2: narrower ones would fall between pixel centres."""

LEAST_ALPHA = 1.0 / 255.0
"""Less of a Gaussian is not drawn: no screen shows it."""

MOST_ALPHA = 0.999
"""No Gaussian covers more: gradients divide by what passes."""

FIELD_MARGIN = 0.15
"""Projections are linearised inside of the picture and a margin of this part of its width and height."""

LEAST_QUATERNION = 1e-24
"""Quaternions whose squared length is at most this turn nothing."""


@dataclass(frozen=True)
class Gate:
    """A union of balls with soft rims, in world units: 1 inside, 0 outside, a smoothstep of distance in between."""

    centers: tuple[tuple[float, float, float], ...]
    inner: float
    """Radius within which the gate is 1."""
    outer: float
    """Radius beyond which the gate is 0."""

    def centers_on(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Float[Tensor, "balls 3"]:
        """The centres on a device, copied there once."""
        return _on_device(self.centers, device, dtype)


@lru_cache
def _on_device(centers: tuple[tuple[float, float, float], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return to_device(torch.tensor(centers, dtype=dtype), device)


class Landmarks(NamedTuple):
    """Landmarks of a part of the face in some frames, world units."""

    positions: Float[Tensor, "frames points 2"]
    """x and z."""
    motion: Float[Tensor, "frames points 2"]
    """Displacement from the mean face."""
    softness: float
    """Distance below which a landmark's weight stops growing."""


class FaceState(NamedTuple):
    """What the inverse warp needs to know of each frame."""

    brow_gate: Gate
    eye_gate: Gate
    lips: Landmarks
    brows: Landmarks
    lids: Float[Tensor, "2 columns 4"]
    """See `ntalker_ns.face.eyelids.lid_curves`."""
    openness: Float[Tensor, "frames"]
    """Of the eyes, 0 closed to 1 open."""


class MlpWeights(NamedTuple):
    """A ReLU network whose first layer also takes channels that all samples of a frame share."""

    weights: list[Tensor]
    """(out, in) of each layer."""
    biases: list[Tensor]
    """(out,) of each layer."""
    frame_weight: Float[Tensor, "hidden frame_channels"] | None
    """Of the frames' channels in the first layer; None: there are none."""


class HashTable(NamedTuple):
    """A hash grid's features."""

    table: Float[Tensor, "entries features"]
    layout: GridLayout
    active_levels: int
    """Levels in use, coarse first."""


class MarchInput(NamedTuple):
    """Rays and the grid cells in which they have samples, at t_k = near + (k + jitter) step."""

    origins: Float[Tensor, "rays 3"]
    """World."""
    directions: Float[Tensor, "rays 3"]
    """Unit vectors."""
    near: Float[Tensor, "rays"]
    """Distance at which the first sample may begin, world units."""
    far: Float[Tensor, "rays"]
    """Distance that the middles of samples stay below, world units."""
    occupied: Bool[Tensor, "grid grid grid"]
    """Cells of the box [-1, 1]^3 that may have samples, indexed x, y, z."""
    step: float
    """Length of a sample, world units, above 0."""
    jitter: Float[Tensor, "rays"]
    """Shift of each ray's samples, in steps, in [0, 1)."""
    max_samples: int
    """Samples kept of a ray at most, the first ones."""


@dataclass
class RaySamples:
    """Samples of many rays, ray after ray."""

    starts: Float[Tensor, "samples"]
    """Distance from the ray's origin to where the sample begins, world units."""
    ray_counts: Int[Tensor, "rays"]

    @property
    def rays(self) -> Int[Tensor, "samples"]:
        """The ray of each sample; needs no synchronisation."""
        return torch.repeat_interleave(self.ray_counts, output_size=len(self.starts))


class FrameSamples(NamedTuple):
    """Samples of rays that lie frame after frame. A frame may have capacity for more than its rays have."""

    starts: Float[Tensor, "samples"]
    """Distance from the ray's origin to where each sample begins, world units; in unused slots, to the box."""
    rays: Int[Tensor, "samples"]
    """The ray of each sample; in unused slots, any."""
    ray_counts: Int[Tensor, "rays"]
    """Samples of each ray."""
    ray_ends: Int[Tensor, "rays"]
    """Index behind each ray's last sample."""
    frame_counts: list[int]
    """Samples of each frame, unused slots included."""
    max_frame_samples: Int[Tensor, ""] | None
    """Most samples that the rays of one frame have, kept or not; None where there is no fixed capacity."""


@runtime_checkable
class IncrementalMarch(Protocol):
    """Rays that are marched a few samples at a time."""

    left: Int[Tensor, "rays"]
    """How many samples each ray may still have; 0 at its end."""

    def next(self, rays: Int[Tensor, "some"], count: int) -> tuple[Float[Tensor, "samples"], Int[Tensor, "some"]]:
        """Starts of the next samples of some rays, ray after ray, and how many each ray has, at most `count`."""
        ...


class Composited(NamedTuple):
    """Sums along rays."""

    values: Float[Tensor, "rays channels"]
    accumulation: Float[Tensor, "rays 1"]
    """Sum of the weights, in [0, 1]."""
    distance: Float[Tensor, "rays 1"]
    """Sum of the distances, each times its weight."""
    thickness: Float[Tensor, "rays 1"]
    """Sum of squared distances from the ray's mean distance, each times its weight."""
    weights: Float[Tensor, "samples"]


class FieldOutputs(NamedTuple):
    """The field's values at samples."""

    density: Float[Tensor, "samples 1"]
    """Per world unit."""
    rgb: Float[Tensor, "samples 3"]
    """In [0, 1]."""
    audio_motion: Float[Tensor, "samples 1"]
    """Length of the gated audio coordinate: how much speech acts here; no gradient."""


class FieldParts(NamedTuple):
    """The whole radiance field at some frames, for a backend that evaluates it in one kernel."""

    speech_gate: Gate
    face: FaceState
    lid_features: int
    """Spatial features that stay where eyes close, the first ones."""
    space_grid: HashTable
    audio_grid: HashTable
    networks: tuple[MlpWeights, MlpWeights, MlpWeights]
    """Of the audio coordinate, of density, of colour."""
    frames: tuple[Tensor, Tensor, Tensor | None]
    """The frames' channels of each network, (frames, channels)."""
    direction_channels: int
    """Channels of an encoded viewing direction."""


@dataclass
class Gaussians:
    """Gaussians of one frame; all tensors are differentiable."""

    means: Float[Tensor, "n 3"]
    """The head's space."""
    log_scales: Float[Tensor, "n 3"]
    """Logarithms of the standard deviations along the axes, the head's units."""
    quaternions: Float[Tensor, "n 4"]
    """wxyz, from the Gaussian's axes to the head's; of any length."""
    opacity_logits: Float[Tensor, "n"]
    """A sigmoid makes opacities of them."""
    colours: Float[Tensor, "n 3"]
    """Used as they are."""


@dataclass
class SplatView:
    """A pinhole camera and the size of its picture."""

    world_to_camera: Float[Tensor, "3 4"]
    """From the Gaussians' space to the camera's: x right, y up, z back (OpenGL). Differentiable."""
    fx: float
    """Px, as the next three."""
    fy: float
    cx: float
    """From the picture's left edge."""
    cy: float
    """From the picture's upper edge."""
    width: int
    height: int


@dataclass
class Raster:
    """A picture of Gaussians."""

    colour: Float[Tensor, "h w 3"]
    """Over black: not divided by the opacity."""
    opacity: Float[Tensor, "h w"]
    """In [0, 1]."""
    depth: Float[Tensor, "h w"]
    """Distance along the camera's axis times opacity: not divided by it."""


class MovingPicture(NamedTuple):
    """A picture whose parts move, and the places of it that a camera sees."""

    texture: Float[Tensor, "texture_rows texture_columns 4"]
    """Premultiplied RGB and opacity over [-margin, 1 + margin] in x and y."""
    margin: float
    shifts: Float[Tensor, "rows columns 2"]
    """By how much further right and down the texture is looked up, at nodes evenly from rim to rim of [0, 1]."""
    x: Float[Tensor, "width"]
    """Of the camera's columns; clamped to [0, 1]."""
    y: Float[Tensor, "height"]
    """Of the camera's rows; clamped to [0, 1]."""
