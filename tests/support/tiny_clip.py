"""A made-up data set that takes milliseconds: a ball with a mouth that opens with the loudness of its audio."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.audio.features import FeatureInfo, save_features
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.face.mesh_indices import FACE_OVAL, MESH

RADIUS = 0.6
"""Radius of the head in world units."""
DISTANCE = 3.0
"""Of the camera from the head's centre."""
FEATURES = {
    **dict.fromkeys(MESH.keypoints["left_eye"], (0.22, 0.15)),
    **dict.fromkeys(MESH.keypoints["right_eye"], (-0.22, 0.15)),
    **dict.fromkeys(MESH.keypoints["mouth"], (0.0, -0.22)),
    **dict.fromkeys(MESH.keypoints["nose"], (0.0, 0.0)),
}
"""Places (x, z) of eyes, mouth and nose on the front of the head."""


def write_tiny_clip(folder: Path, frames: int = 22, size: int = 40, channels: int = 6, extractor: str = "mel") -> Path:
    """Writes a data set as `ntalker process` does.

    Args:
        folder: where; made if it is not there.
        frames: how many.
        size: width and height in px.
        channels: width of the audio features; their first channel is the loudness that opens the mouth.
        extractor: the name the features are stored under.

    Returns:
        The folder.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    loudness = 0.5 - 0.5 * np.cos(np.arange(frames) * 0.9)
    poses = np.stack([camera_to_world(0.25 * np.sin(0.4 * i), 0.1 * np.cos(0.3 * i)) for i in range(frames)])
    focal = 0.9 * size * DISTANCE / (2 * RADIUS) / 1.3
    landmarks = np.stack([project(landmark_points(), pose, focal, size) for pose in poses])
    records = []
    for i in range(frames):
        labels = draw_labels(poses[i], focal, size, loudness[i])
        write_picture(folder / f"images/{i:05d}.jpg", colours(labels))
        write_picture(folder / f"masks/{i:05d}.png", labels)
        records.append(
            {
                "file_path": f"images/{i:05d}.jpg",
                "transform_matrix": np.vstack([poses[i], [0, 0, 0, 1]]).tolist(),
                "time": i / (frames - 1),
                "eye_openness": float(0.5 + 0.5 * np.cos(0.2 * i)),
                "mouth_opening": float(0.1 * loudness[i]),
                "face_box": bounds(labels >= HEAD),
                "lip_box": bounds(labels >= LIPS),
                "tracked": True,
            }
        )
    write_picture(folder / "background.png", colours(np.zeros((size, size), np.uint8)))
    np.save(folder / "landmarks.npy", landmarks.astype(np.float32))
    track = np.random.default_rng(0).normal(0.0, 0.05, (frames, 16, channels)).astype(np.float32)
    track[:, :, 0] = loudness[:, None]
    save_features(folder / "audio_features", track, FeatureInfo(extractor, None, channels))
    write_transforms(folder, size, focal, extractor, records)
    return folder


def camera_to_world(yaw: float, pitch: float) -> Float[np.ndarray, "3 4"]:
    """A camera in front of the face (at -y), turned about the head by angles in radians."""
    front = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    rotation = about_z @ about_x @ front
    return np.column_stack([rotation, DISTANCE * rotation[:, 2]]).astype(np.float32)


def landmark_points() -> Float[np.ndarray, "478 3"]:
    """Mediapipe's landmarks on the ball: oval, eyes, mouth, nose and chin in place, the others at the nose."""
    flat = np.zeros((478, 2))
    for index, (x, z) in FEATURES.items():
        flat[index] = (x, z)
    angles = np.arange(len(FACE_OVAL)) * 2 * np.pi / len(FACE_OVAL)
    flat[FACE_OVAL] = 0.5 * np.column_stack([np.sin(angles), np.cos(angles)])
    depth = -np.sqrt(RADIUS**2 - (flat**2).sum(axis=1))
    return np.column_stack([flat[:, 0], depth, flat[:, 1]])


def project(
    points: Float[np.ndarray, "n 3"], pose: Float[np.ndarray, "3 4"], focal: float, size: int
) -> Float[np.ndarray, "n 2"]:
    """Pixel positions of world points."""
    local = (points - pose[:, 3]) @ pose[:, :3]
    return np.column_stack([local[:, 0], -local[:, 1]]) / -local[:, 2:] * focal + size / 2


def draw_labels(pose: Float[np.ndarray, "3 4"], focal: float, size: int, opening: float) -> UInt8[np.ndarray, "h w"]:
    """The ball seen by a camera, a mouth on it that is open by `opening` in [0, 1], and a torso below."""
    y, x = np.mgrid[:size, :size] + 0.5
    local = np.stack([(x - size / 2) / focal, -(y - size / 2) / focal, -np.ones_like(x)], axis=-1)
    directions = local @ pose[:, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    along = -(directions @ pose[:, 3])
    discriminant = along**2 - (DISTANCE**2 - RADIUS**2)
    hit = discriminant > 0
    points = pose[:, 3] + (along - np.sqrt(np.maximum(discriminant, 0)))[..., None] * directions
    labels = np.full((size, size), BACKGROUND, np.uint8)
    labels[(y > 0.8 * size) & (np.abs(x - size / 2) < 0.3 * size)] = TORSO
    labels[hit] = HEAD
    across, up = points[..., 0] / 0.2, points[..., 2] + 0.22
    labels[hit & (across**2 + (up / (0.07 + 0.1 * opening)) ** 2 < 1)] = LIPS
    labels[hit & (across**2 + (up / (0.005 + 0.1 * opening)) ** 2 < 0.7)] = MOUTH_INTERIOR
    return labels


def colours(labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """One RGB colour a label."""
    palette = np.array([[90, 120, 160], [40, 40, 60], [220, 170, 140], [190, 60, 70], [40, 10, 10]], np.uint8)
    return palette[labels]


def bounds(mask: np.ndarray) -> list[float]:
    """x0, y0, x1, y1 in px of what is True."""
    y, x = np.nonzero(mask)
    return [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes labels or an RGB picture."""
    cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_transforms(folder: Path, size: int, focal: float, extractor: str, records: list[dict[str, Any]]) -> None:
    """Writes transforms.json of square frames whose principal point is their centre.

    Args:
        folder: of the data set.
        size: side of the frames in px.
        focal: length in px.
        extractor: of the audio features.
        records: of the frames.
    """
    meta = {
        "format": "ntalker",
        "format_version": 1,
        "camera_model": "OPENCV",
        "w": size,
        "h": size,
        "fl_x": focal,
        "fl_y": focal,
        "cx": size / 2,
        "cy": size / 2,
        "fps": 25.0,
        "feature_extractor": extractor,
        "tracking": {"residual_px": 0.0, "rotation_jitter_deg": 0.0},
        "source": {},
        "frames": records,
    }
    (folder / "transforms.json").write_text(json.dumps(meta))
