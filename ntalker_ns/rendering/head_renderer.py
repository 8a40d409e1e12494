"""The head along rays: where samples lie, what the field says there, and their sum."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ntalker_ns.field.pose_refinement import apply_per_frame, corrected_rays
from ntalker_ns.field.ragged import PerRay
from ntalker_ns.field.talker_field import FieldOutputs, FrameConditions, TalkerField
from ntalker_ns.kernels.lattice import Lattice
from ntalker_ns.rendering.compositing import composite
from ntalker_ns.rendering.early_termination import composite_in_rounds
from ntalker_ns.rendering.marching import intersect_box, points_along, walk
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.packed_samples import march_frames

PICTURE_SAMPLES = 4
"""Times as many samples of a ray as in training at most: rays that graze the head from aside pass many empty cells, and
those that meet it end there."""

SUMMED = 4
"""Values summed along a ray of a picture: colour, audio motion."""


class Samples(NamedTuple):
    """Where along rays a field was asked, and how much of that is seen."""

    positions: Float[Tensor, "samples 3"]
    """World; without gradients."""
    weights: Float[Tensor, "samples"]


class HeadRenderer:
    """Renders rays that lie frame after frame."""

    def __init__(self, field: TalkerField, occupancy: OccupancyGrid, step_size: float, max_samples: int) -> None:
        """
        Args:
            field: the head.
            occupancy: which cells of its box are asked.
            step_size: distance between samples, world units.
            max_samples: of a training ray.
        """
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
        room: int | None = None,
    ) -> tuple[dict[str, Tensor], Samples]:
        """Renders rays with gradients.

        Args:
            ray_bundle: rays, frame after frame.
            counts: rays of each frame; in training equally many.
            conditions: of the frames.
            corrections: of the frames' poses; None: none.
            training: samples are shifted at random.
            room: see `march_frames`.

        Returns:
            What `_outputs` names; thickness (rays, 1), the variance of depth along a ray times its opacity; the mean
            number of samples a ray; with a room, `FrameSamples.fullest`; and the samples.
        """
        near, far = intersect_box(
            ray_bundle.origins, ray_bundle.directions, *(() if training else self.occupancy.box())
        )
        shift = torch.rand_like(near) if training else torch.full_like(near, 0.5)
        # By the tracker's poses: cells were carved by them, and cells of corrected rays would leave surfaces less room
        # to move (0.4 dB).
        most = self.max_samples if training else PICTURE_SAMPLES * self.max_samples
        lattice = self._lattice(ray_bundle, near, far, shift, self.occupancy.occupied, most)
        samples = march_frames(lattice, counts, room)
        ray, middles = samples.rays, samples.starts + 0.5 * self.step_size
        conditions = replace(conditions, counts=samples.frame_counts)
        positions = points_along(ray_bundle.origins, ray_bundle.directions, ray, middles)
        if corrections is not None:
            # Corrections are learned by where samples are: of rays, gradients would have to be gathered.
            positions = apply_per_frame(positions, corrections, conditions.counts)
        found = self.field(positions, _per_ray(self.field.views(ray_bundle.directions), ray), conditions)
        packed = (middles, self.step_size, samples.ray_counts, samples.ray_ends)
        summed = composite(found.density.squeeze(-1), found.rgb, *packed)
        # In training the box of the rays is the whole one.
        whole = far if training else _far(ray_bundle)
        outputs = _outputs(summed.values, summed.distance, summed.accumulation, whole)
        outputs["thickness"] = summed.thickness
        outputs["samples_per_ray"] = samples.ray_counts.sum() / max(len(near), 1)
        if samples.fullest is not None:
            outputs["fullest"] = samples.fullest
        return outputs, Samples(positions.detach(), summed.weights)

    def behind(
        self,
        ray_bundle: RayBundle,
        counts: list[int],
        conditions: FrameConditions,
        corrections: Float[Tensor, "frames 6"] | None,
        chosen: Int[Tensor, "chosen"],
        depth: Float[Tensor, "chosen"],
    ) -> FieldOutputs:
        """Asks the field at one point of each chosen ray.

        Args:
            ray_bundle: rays, frame after frame.
            counts: chosen rays of each frame.
            conditions: of the frames.
            corrections: of the frames' poses; None: none.
            chosen: which rays, ascending.
            depth: distance of each point from its ray's origin, world units.
        """
        conditions = replace(conditions, counts=counts)
        directions = ray_bundle.directions[chosen]
        points = ray_bundle.origins[chosen] + depth[:, None] * directions
        if corrections is not None:
            with torch.no_grad():
                points = apply_per_frame(points, corrections, conditions.counts)
        views = self.field.views(directions)
        seen = None if views is None else PerRay(views, torch.arange(len(points), device=points.device))
        return self.field(points, seen, conditions)

    @torch.no_grad()
    def picture(
        self,
        ray_bundle: RayBundle,
        conditions: FrameConditions,
        corrections: Float[Tensor, "1 6"] | None,
        marks: bool = False,
    ) -> dict[str, Tensor]:
        """Renders rays of one frame without gradients: what lies behind surfaces is not asked for.

        Args:
            ray_bundle: as in `rays`.
            conditions: of the frame.
            corrections: of its pose; on the host.
            marks: say which rays are `live` (rays, 1): speech, brows or blinks may act on them.

        Returns:
            What `_outputs` names; audio_motion (rays, 1); and the mean number of samples a ray.
        """
        near, far = intersect_box(ray_bundle.origins, ray_bundle.directions, *self.occupancy.box())
        origins, directions = ray_bundle.origins, ray_bundle.directions
        if corrections is not None:
            origins, directions = corrected_rays(origins, directions, corrections[0])
        live = torch.zeros_like(near, dtype=torch.bool)
        # Viewing directions keep the tracker's pose: the corrections are fractions of a degree.
        field, views, asked = self.field.at_frame(conditions), self.field.views(ray_bundle.directions), 0

        def ask(ray: Tensor, middles: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal asked
            asked += len(ray)
            positions = points_along(origins, directions, ray, middles)
            if marks:
                live[ray[self.field.moves(positions)]] = True
            found = field(positions, _per_ray(views, ray))
            return found.density.squeeze(-1), torch.cat([found.rgb, found.audio_motion], dim=-1)

        middle, most = torch.full_like(near, 0.5), PICTURE_SAMPLES * self.max_samples
        steps = walk(self._lattice(ray_bundle, near, far, middle, self.occupancy.solid, most))
        sums, opacity = composite_in_rounds(ask, steps, self.step_size, SUMMED)
        head, motion, distance = sums.split([3, 1, 1], dim=-1)
        outputs = _outputs(head, distance, opacity, _far(ray_bundle)) | {"audio_motion": motion}
        outputs["samples_per_ray"] = near.new_tensor(asked / max(len(near), 1))
        return outputs | ({"live": live[:, None]} if marks else {})

    def _lattice(
        self, ray_bundle: RayBundle, near: Tensor, far: Tensor, shift: Tensor, cells: Tensor, most: int
    ) -> Lattice:
        rays = (ray_bundle.origins, ray_bundle.directions, near, far)
        return Lattice(*rays, cells, self.step_size, shift, most)


def _per_ray(views: Float[Tensor, "rays components"] | None, ray: Int[Tensor, "samples"]) -> PerRay | None:
    """What colour is told of the viewing directions of samples' rays."""
    return None if views is None else PerRay(views, ray)


def _far(ray_bundle: RayBundle) -> Float[Tensor, "rays"]:
    """Where rays leave the box."""
    return intersect_box(ray_bundle.origins, ray_bundle.directions)[1]


def _outputs(
    head: Float[Tensor, "rays 3"],
    distance: Float[Tensor, "rays 1"],
    opacity: Float[Tensor, "rays 1"],
    far: Float[Tensor, "rays"],
) -> dict[str, Tensor]:
    """What the sums along rays say, by the names that losses and users know; what is empty ends at far."""
    empty = 1.0 - opacity
    return {
        "head": head,
        "depth": distance + empty * far[:, None],
        "accumulation": opacity,
    }
