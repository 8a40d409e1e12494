"""A made-up rigid face seen by a known camera, for the tracker's tests."""

from dataclasses import dataclass

import numpy as np

from ntalker_ns.capture.tracking import Track
from ntalker_ns.face import mesh_indices, rotations


@dataclass(frozen=True)
class Scene:
    """What is true, and what a landmark detector would report of it."""

    track: Track
    landmarks: np.ndarray
    """(n, 478, 3) px and relative depth, noisy"""


def make_scene(
    frames: int = 60, noise: float = 0.3, seed: int = 0, focal: float = 1000.0, nodding: float | None = None
) -> Scene:
    """A head that drifts and turns by 15 degrees, or nods to and fro by `nodding` radians, over frames of 512 px."""
    rng = np.random.default_rng(seed)
    shape = face_shape(rng)
    t = np.linspace(0, 2 * np.pi, frames)
    turn = np.stack([0.10 * np.sin(t), 0.26 * np.sin(0.7 * t), 0.05 * np.cos(t)], axis=1)
    if nodding is not None:
        turn = nodding * rng.normal(size=(frames, 3))
    rotation = rotations.exp(turn)
    translation = np.stack([0.3 * np.sin(t), 0.2 * np.cos(t), 10.0 + 0.3 * np.sin(0.5 * t)], axis=1)
    track = Track(focal, np.array([256.0, 256.0]), shape, rotation, translation, np.ones(frames, bool))
    seen = track.camera_points()
    depth = (seen[..., 2:] - seen[..., 2:].mean(axis=1, keepdims=True)) * focal / 10.0
    pixels = track.project() + noise * rng.normal(size=(frames, 478, 2))
    return Scene(track, np.concatenate([pixels, depth * 0.9], axis=-1))


def face_shape(rng: np.random.Generator) -> np.ndarray:
    """478 points on the front of an ellipsoid, those on the outline around its rim."""
    angle, radius = rng.uniform(0, 2 * np.pi, 478), np.sqrt(rng.uniform(0, 0.9, 478))
    x, y = radius * np.cos(angle), 1.3 * radius * np.sin(angle)
    around = np.linspace(0, 2 * np.pi, len(mesh_indices.FACE_OVAL), endpoint=False)
    x[mesh_indices.FACE_OVAL], y[mesh_indices.FACE_OVAL] = np.sin(around), -1.3 * np.cos(around)
    x[mesh_indices.UNDER_NOSE], y[mesh_indices.UNDER_NOSE] = 0.0, 0.35
    for outline, (column, row) in zip(
        mesh_indices.MOVING_OUTLINES, [(-0.4, -0.2), (0.4, -0.2), (-0.4, -0.45), (0.4, -0.45)], strict=True
    ):
        turn = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)
        x[outline], y[outline] = column + 0.2 * np.cos(turn), row + 0.07 * np.sin(turn)
    depth = -np.sqrt(np.clip(1.1 - x**2 - (y / 1.3) ** 2, 0.0, None))
    shape = np.stack([x, y, depth], axis=1)
    shape -= shape[mesh_indices.RIGID].mean(axis=0)
    return shape / np.sqrt((shape[mesh_indices.RIGID] ** 2).sum(axis=1).mean())


def rotation_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between two sequences of rotations once their axes are aligned as a whole."""
    offset = rotations.mean(np.swapaxes(a, 1, 2) @ b)
    return np.degrees(np.linalg.norm(rotations.log(np.swapaxes(a @ offset, 1, 2) @ b), axis=1))
