"""Which point of the head each pixel of a picture shows: the correspondence between frames."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.face.mesh_indices import lip_contours
from ntalker_ns.field.landmark_warp import inside_contour
from ntalker_ns.field.pose_refinement import corrected_rays
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import FaceState, Gate
from ntalker_ns.rendering.head import Head
from ntalker_ns.rendering.rays import camera_rays
from ntalker_ns.splats.start import depth_along

OPAQUE = 0.5
"""Opacity of the head from which on a pixel can show the mouth."""
RIM = 0.06
"""Width of the head's rim over its own."""
LEAST_OPACITY = 1e-3
"""Below this opacity a pixel's depth means nothing."""


class Surface(NamedTuple):
    """The head's surface in a picture."""

    canonical: Float[Tensor, "height width 3"]
    """The point at the mean depth of what the head shows, in canonical space; meaningless where its opacity is 0."""
    mouth: Int[Tensor, "height width 1"]
    """1 on the lips, 2 between them, 0 elsewhere."""


@torch.no_grad()
def beside_head(
    head: Head,
    camera: Cameras,
    conditions: Any,
    correction: Float[Tensor, "1 6"] | None,
    opacity: Float[Tensor, "height width 1"],
) -> Float[Tensor, "height width 3"]:
    """The canonical points that pixels would show if the head reached there: on the shell of the tracked face.

    Args:
        head: what was rendered.
        camera: one flat camera, on the host.
        conditions: of the frame.
        correction: of its pose, on the host; None: none.
        opacity: of the head in the picture. Further inside it than its rim, far from it, and where the shell lies
            further out than the head can reach, points are 0.
    """
    rows, columns = _around(opacity[..., 0].cpu().numpy())
    rays = camera_rays(camera, torch.device("cpu"))
    origins, directions = rays.origins[rows, columns], rays.directions[rows, columns]
    if correction is not None:
        origins, directions = corrected_rays(origins, directions, correction[0])
    depth = depth_along(origins.double().numpy(), directions.double().numpy(), head.depth_surface())
    points = origins + torch.from_numpy(depth).float()[:, None] * directions
    inside = (points.abs() < head.reach).all(dim=1)
    rows, columns, points = rows[inside.numpy()], columns[inside.numpy()], points[inside].to(opacity.device)
    result = torch.zeros(*opacity.shape[:2], 3, device=opacity.device)
    result[rows, columns] = canonical_points(head.ops, points.contiguous(), *head.face(conditions))
    return result


def _around(opacity: Float[np.ndarray, "height width"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pixels beside the head, up to its own width away, and of its rim."""
    import cv2

    shown = opacity > OPAQUE
    if not shown.any():
        return np.zeros(0, int), np.zeros(0, int)
    wide = np.ptp(np.nonzero(shown)[1]) + 1
    away = cv2.distanceTransform((~shown).astype(np.uint8), cv2.DIST_L2, 3)
    within = cv2.distanceTransform(shown.astype(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero((within < RIM * wide) & (away < wide))
    return rows, columns


@torch.no_grad()
def seen_surface(
    head: Head,
    camera: Cameras,
    conditions: Any,
    correction: Float[Tensor, "1 6"] | None,
    outputs: dict[str, Tensor],
) -> Surface:
    """The surface that a picture of one frame shows.

    Args:
        head: what was rendered.
        camera: one flat camera, on the host.
        conditions: of the frame.
        correction: of its pose, on the host; None: none.
        outputs: accumulation and depth of the picture.
    """
    opacity, depth = outputs["accumulation"], outputs["depth"]
    # What passes through the head counts in the mean depth as ending where there is none.
    depth = (depth - (1.0 - opacity) * head.empty_depth(camera)) / opacity.clamp(min=LEAST_OPACITY)
    rays = camera_rays(camera, depth.device).flatten()
    origins, directions = rays.origins, rays.directions
    if correction is not None:
        origins, directions = corrected_rays(origins, directions, correction[0])
    points = (origins + depth.view(-1, 1) * directions).clamp(-1.0, 1.0)
    gate, face = head.face(conditions)
    mouth = mouth_parts(head.ops, points, gate, face) * (opacity.view(-1) > OPAQUE)
    canonical = canonical_points(head.ops, points, gate, face)
    return Surface(canonical.view(*opacity.shape[:2], 3), mouth.view(*opacity.shape[:2], 1))


def canonical_points(
    ops: Ops, points: Float[Tensor, "points 3"], gate: Gate, face: FaceState
) -> Float[Tensor, "points 3"]:
    """Where points of a frame are in the mean face with open eyes.

    Args:
        ops: computes it.
        points: world, after the correction of the frame's pose.
        gate: where speech acts.
        face: of one frame.
    """
    return points + ops.inverse_warp(points, ops.gate(points, gate), [len(points)], face)[0]


def mouth_parts(ops: Ops, points: Float[Tensor, "points 3"], gate: Gate, face: FaceState) -> Int[Tensor, "points"]:
    """Which points lie on the lips (1) or between them (2), seen from the front; 0 elsewhere.

    Args:
        ops: computes it.
        points: as above.
        gate: as above.
        face: of one frame.
    """
    landmarks = face.lips.positions[0]
    outer, inner = (inside_contour(points[:, ::2], landmarks[part]) for part in lip_contours(len(landmarks)))
    near = ops.gate(points, gate).squeeze(-1) > 0
    return near * (outer.int() + inner.int())
