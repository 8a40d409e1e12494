"""The head along rays: samples, the field at their points, and compositing."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ntalker_ns.field.pose_refinement import corrected_rays
from ntalker_ns.field.talker_field import FrameConditions, TalkerField
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs
from ntalker_ns.kernels.types import FieldOutputs, MarchInput
from ntalker_ns.rendering.early_termination import composite_in_rounds
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.packed_samples import march_frames

PICTURE_SAMPLES = 4
"""Most samples of a ray of a picture, as a multiple of those in training: rays that graze the head pass many empty
cells, and rays that hit it end there."""

SUMMED = 4
"""Values summed along a ray of a picture: colour, audio motion."""


class Samples(NamedTuple):
    """Samples along rays and their contribution."""

    positions: Float[Tensor, "samples 3"]
    """World; without gradients."""
    weights: Float[Tensor, "samples"]


@dataclass
class RayOutputs:
    """The head along rays."""

    head: Float[Tensor, "rays 3"]
    """RGB, premultiplied by opacity."""
    opacity: Float[Tensor, "rays 1"]
    depth: Float[Tensor, "rays 1"]
    """Mean distance, world units; what passes through the head ends at the box."""
    samples_per_ray: Float[Tensor, ""] | None = None
    """The mean, where rays have samples."""
    thickness: Float[Tensor, "rays 1"] | None = None
    """With gradients: variance of depth along the ray times its opacity."""
    samples: Samples | None = None
    """With gradients."""
    max_frame_samples: Int[Tensor, ""] | None = None
    """With a capacity, see `FrameSamples`."""
    audio_motion: Float[Tensor, "rays 1"] | None = None
    """In pictures."""
    live: Bool[Tensor, "rays 1"] | None = None
    """In pictures, if marked: whether speech, brows or blinks may act on the ray."""

    def picture(self) -> dict[str, Tensor]:
        """The outputs of pictures, by nerfstudio's names."""
        named = {"depth": self.depth, "accumulation": self.opacity, "head": self.head}
        named |= {} if self.audio_motion is None else {"audio_motion": self.audio_motion}
        return named if self.live is None else named | {"live": self.live}


class HeadRenderer:
    """Renders rays that lie frame after frame."""

    def __init__(
        self, ops: Ops, field: TalkerField, occupancy: OccupancyGrid, step_size: float, max_samples: int
    ) -> None:
        """
        Args:
            ops: computes it.
            field: the head.
            occupancy: which cells of its box have samples.
            step_size: distance between samples, world units.
            max_samples: of a training ray.
        """
        self.ops = ops
        self.field = field
        self.occupancy = occupancy
        self.step_size = step_size
        self.max_samples = max_samples

    def rays(
        self,
        ray_bundle: RayBundle,
        counts: list[int],
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        training: bool,
        capacity: int | None = None,
    ) -> RayOutputs:
        """Renders rays with gradients.

        Args:
            ray_bundle: rays, frame after frame.
            counts: rays of each frame; in training equally many.
            conditions: of the frames.
            corrections: of the frames' poses; None: none.
            training: samples are jittered.
            capacity: see `march_frames`.
        """
        ops, rays = self.ops, (ray_bundle.origins, ray_bundle.directions)
        near, far = ops.intersect_box(*rays, *(() if training else self.occupancy.box()))
        jitter = torch.rand_like(near) if training else torch.full_like(near, 0.5)
        # Uncorrected rays: the cells were carved by the tracker's poses, and marching corrected rays costs 0.4 dB.
        most = self.max_samples if training else PICTURE_SAMPLES * self.max_samples
        given = MarchInput(*rays, near, far, self.occupancy.occupied, self.step_size, jitter, most)
        samples = march_frames(ops, given, counts, capacity)
        ray, middles = samples.rays, samples.starts + 0.5 * self.step_size
        conditions = replace(conditions, counts=samples.frame_counts)
        positions = ops.points_along(*rays, ray, middles)
        if corrections is not None:
            # Samples are corrected and not rays, whose gradients would have to be gathered.
            positions = ops.correct_poses(positions, corrections, conditions.counts)
        found = self.field(positions, _ray_inputs(self.field.views(ray_bundle.directions), ray), conditions)
        packed = (middles, self.step_size, samples.ray_counts, samples.ray_ends)
        summed = ops.composite(found.density.squeeze(-1), found.rgb, *packed)
        # In training rays were intersected with the whole box.
        whole = far if training else ops.intersect_box(*rays)[1]
        return RayOutputs(
            head=summed.values,
            opacity=summed.accumulation,
            depth=summed.distance + (1.0 - summed.accumulation) * whole[:, None],
            samples_per_ray=samples.ray_counts.sum() / max(len(near), 1),
            thickness=summed.thickness,
            samples=Samples(positions.detach(), summed.weights),
            max_frame_samples=samples.max_frame_samples,
        )

    def behind(
        self,
        ray_bundle: RayBundle,
        counts: list[int],
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        subset: Int[Tensor, "subset"],
        depth: Float[Tensor, "subset"],
    ) -> FieldOutputs:
        """The field at one point of each of some rays.

        Args:
            ray_bundle: rays, frame after frame.
            counts: how many of each frame's rays.
            conditions: of the frames.
            corrections: of the frames' poses; None: none.
            subset: which rays, ascending.
            depth: distance of each point from its ray's origin, world units.
        """
        conditions = replace(conditions, counts=counts)
        directions = ray_bundle.directions[subset]
        points = ray_bundle.origins[subset] + depth[:, None] * directions
        if corrections is not None:
            with torch.no_grad():
                points = self.ops.correct_poses(points, corrections, conditions.counts)
        ray = torch.arange(len(points), device=points.device)
        return self.field(points, _ray_inputs(self.field.views(directions), ray), conditions)

    @torch.no_grad()
    def picture(
        self,
        ray_bundle: RayBundle,
        conditions: FrameConditions,
        corrections: Float[Tensor, "1 6"] | None,
        marks: bool = False,
    ) -> RayOutputs:
        """Renders rays of one frame without gradients; samples behind surfaces are not computed.

        Args:
            ray_bundle: as in `rays`.
            conditions: of the frame.
            corrections: of its pose; on the host.
            marks: also return which rays are live.
        """
        ops, (origins, directions) = self.ops, (ray_bundle.origins, ray_bundle.directions)
        near, far = ops.intersect_box(origins, directions, *self.occupancy.box())
        middle, most = torch.full_like(near, 0.5), PICTURE_SAMPLES * self.max_samples
        given = MarchInput(origins, directions, near, far, self.occupancy.solid, self.step_size, middle, most)
        if corrections is not None:
            origins, directions = corrected_rays(origins, directions, corrections[0])
        live = torch.zeros_like(near, dtype=torch.bool)
        # Viewing directions keep the tracker's pose: the corrections are fractions of a degree.
        field, views, num_samples = self.field.at_frame(conditions), self.field.views(ray_bundle.directions), 0

        def query(ray: Tensor, middles: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal num_samples
            num_samples += len(ray)
            positions = ops.points_along(origins, directions, ray, middles)
            if marks:
                live[ray[self.field.moves(positions)]] = True
            found = field(positions, _ray_inputs(views, ray))
            return found.density.squeeze(-1), torch.cat([found.rgb, found.audio_motion], dim=-1)

        sums, opacity = composite_in_rounds(ops, query, ops.incremental_march(given), self.step_size, SUMMED)
        head, motion, distance = sums.split([3, 1, 1], dim=-1)
        whole = ops.intersect_box(ray_bundle.origins, ray_bundle.directions)[1]
        return RayOutputs(
            head=head,
            opacity=opacity,
            depth=distance + (1.0 - opacity) * whole[:, None],
            samples_per_ray=near.new_tensor(num_samples / max(len(near), 1)),
            audio_motion=motion,
            live=live[:, None] if marks else None,
        )


def _ray_inputs(views: Float[Tensor, "rays components"] | None, ray: Int[Tensor, "samples"]) -> RayInputs | None:
    """Encoded viewing directions of samples."""
    return None if views is None else RayInputs(views, ray)
