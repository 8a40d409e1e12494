"""How far mouths open, measured without a detector of faces: in pictures that it does not know, it errs.

Two heads that say the same are compared: an edit and its base. Optical flow follows the lips of each head from one of
its frames to all others; only where the lips lie in that one frame comes from the base's landmarks, for both. In a head
of Gaussians, those that make up the lips can be followed themselves.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.spatial import KDTree

from ntalker_ns.capture.landmarks import MEASURED_AT
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.evaluation.metrics.lips import mouth_openings
from ntalker_ns.evaluation.metrics.warping import optical_flow
from ntalker_ns.face.mesh_indices import MOUTH_CORNERS

Picture = UInt8[np.ndarray, "h w 3"]
Landmarks = Float[np.ndarray, "frames 478 2"]

UPPER, LOWER = ((37, 82), (0, 13), (267, 312)), ((84, 87), (17, 14), (314, 317))
"""Landmarks on the outer and the inner edge of the middle of the lips."""
ACROSS = (0.25, 0.5, 0.75)
"""Where between both edges lips are followed."""
CROP, WIDE = 192, 2.0
"""Side of the picture of a mouth in px, and over the mouth's width."""
OF_LIP = 0.06
"""Distance from points on a lip, over the distance between the eyes, up to which Gaussians make it up."""
SHOWN = 512
"""Longest side of pictures in which Gaussians are followed, px."""


def flow_openings(frames: Sequence[Picture], marks: Landmarks) -> Float[np.ndarray, " frames"]:
    """By how much the lips have moved apart since the frame with the median opening, over the mouth's width.

    Args:
        frames: of a head.
        marks: landmarks of the unedited head's same frames, px at `MEASURED_AT`: they place the pictures of the mouth,
            and the lips in one frame.
    """
    scale = frames[0].shape[1] / MEASURED_AT
    width = scale * float(np.nanmedian(np.linalg.norm(marks[:, MOUTH_CORNERS[0]] - marks[:, MOUTH_CORNERS[1]], axis=1)))
    middles = scale * marks[:, MOUTH_CORNERS].mean(axis=1)
    mouths = [_mouth(frame, middle, WIDE * width) for frame, middle in zip(frames, middles, strict=True)]
    opening = mouth_openings(marks)
    start = int(np.nanargmin(np.abs(opening - np.nanmedian(opening))))
    corner = middles[start] - 0.5 * WIDE * width
    upper, lower = ((scale * _on_lip(marks[start], lip) - corner) * CROP / (WIDE * width) for lip in (UPPER, LOWER))
    flow = optical_flow("dis")
    apart = []
    for mouth in mouths:
        moved = flow(mouths[start], mouth)
        up, down = (float(_sampled(moved[..., 1], lip).mean()) for lip in (upper, lower))
        apart.append((down - up) * WIDE / CROP)
    return np.array(apart)


def gaussian_openings(
    base: Any, edited: Any, marks: Landmarks
) -> tuple[Float[np.ndarray, " frames"], Float[np.ndarray, " frames"], float]:
    """Vertical distances of the lips' Gaussians in both heads, over the mouth's width, and how far the edit has moved
    them in the picture: root mean square, px at 512.

    Args:
        base: model of the unedited head.
        edited: model of the edit, driven by the same sequence.
        marks: landmarks of the unedited head's frames.
    """
    opening, scale = mouth_openings(marks), SHOWN / MEASURED_AT
    start = int(np.nanargmin(np.abs(opening - np.nanmedian(opening))))
    camera = sequence_cameras(base.driving, np.array([start]), SHOWN, enlarge=True)
    canonical = base.surface(camera, base.get_outputs_for_camera(camera))["canonical"].cpu().numpy()
    width = scale * float(np.linalg.norm(marks[start, MOUTH_CORNERS[0]] - marks[start, MOUTH_CORNERS[1]]))
    at_rest = (base.head.gaussians.base[:, :3] * base.head.gaussians.rates[:3]).detach().cpu().numpy()
    lips = []
    for lip in (UPPER, LOWER):
        columns, rows = (scale * _on_lip(marks[start], lip)).astype(int).T
        distances, _ = KDTree(canonical[rows, columns]).query(at_rest)
        lips.append(distances < OF_LIP * base.driving.rig.eye_distance)
    result, moved = [], []
    for frame in range(len(marks)):
        places = [_projected(model, frame)[: len(at_rest)] for model in (base, edited)]
        result.append([(each[lips[1], 1].mean() - each[lips[0], 1].mean()) / width for each in places])
        moved.append(np.square(places[1] - places[0])[lips[0] | lips[1]].sum(axis=1).mean())
    first, second = np.array(result).T
    return first, second, float(np.sqrt(np.mean(moved)))


@torch.no_grad()
def _projected(model: Any, frame: int) -> Float[np.ndarray, "n 2"]:
    """Columns and rows of a head's Gaussians in a frame at 512 px."""
    camera = sequence_cameras(model.driving, np.array([frame]), SHOWN, enlarge=True)
    conditions = model.conditions(torch.tensor([frame]), camera.camera_to_worlds)
    gaussians = model.head.gaussians
    means = gaussians(conditions.controls[0], conditions.light[0], gaussians.motion()).means
    pose = camera.camera_to_worlds[0]
    x, y, z = ((means - pose[:, 3]) @ pose[:, :3]).numpy().T
    return np.stack([float(camera.cx) - float(camera.fx) * x / z, float(camera.cy) + float(camera.fy) * y / z], axis=1)


def _sampled(values: Float32[np.ndarray, "h w"], where: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 1"]:
    """Values at columns and rows."""
    columns, rows = np.ascontiguousarray(where.T, np.float32)
    return cv2.remap(values, columns, rows, cv2.INTER_LINEAR)


def _mouth(frame: Picture, middle: Float[np.ndarray, "2"], side: float) -> Picture:
    """A square of a frame around its mouth, enlarged."""
    zoom = CROP / side
    shift = np.array([[zoom, 0.0, CROP / 2 - zoom * middle[0]], [0.0, zoom, CROP / 2 - zoom * middle[1]]])
    return cv2.warpAffine(frame, shift, (CROP, CROP), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _on_lip(marks: Float[np.ndarray, "478 2"], lip: Sequence[tuple[int, int]]) -> Float32[np.ndarray, "points 2"]:
    """Points on the middle of a lip."""
    edges = [(marks[outer], marks[inner]) for outer, inner in lip]
    return np.stack([(1 - each) * outer + each * inner for outer, inner in edges for each in ACROSS]).astype(np.float32)
