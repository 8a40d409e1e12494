"""A small clip with known geometry, written as a data set: a textured ellipsoid before a plain backdrop."""

import json
from pathlib import Path

import cv2
import numpy as np

from ntalker_ns.face.mesh_indices import FACE_OVAL, MESH
from support.tiny_clip import write_transforms

RADII = np.array([0.55, 0.65, 0.8])
KEYPOINTS = {
    "mouth": (0.0, -0.4),
    "chin": (0.0, -0.7),
    "left_eye": (0.22, 0.15),
    "right_eye": (-0.22, 0.15),
    "nose": (0.0, -0.1),
}
"""x and z of points on the front of the head; the person's left is +x."""


def front(x: float, z: float) -> np.ndarray:
    """The point of the head's front (towards -y) at x, z."""
    depth = 1 - (x / RADII[0]) ** 2 - (z / RADII[2]) ** 2
    return np.array([x, -RADII[1] * np.sqrt(max(depth, 0)), z])


def true_keypoints() -> dict[str, np.ndarray]:
    """The true keypoints."""
    return {name: front(*place) for name, place in KEYPOINTS.items()}


def poses(num_frames: int, distance: float = 4.0) -> np.ndarray:
    """OpenGL camera-to-world matrices (n, 4, 4) that look at the origin from around -y."""
    result = np.tile(np.eye(4), (num_frames, 1, 1))
    for i in range(num_frames):
        yaw, pitch = 0.35 * np.sin(0.7 * i), 0.15 * np.cos(0.45 * i)
        place = distance * np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
        back = place / np.linalg.norm(place)
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        result[i, :3] = np.stack([right, np.cross(back, right), back, place], axis=1)
    return result


def project(points: np.ndarray, pose: np.ndarray, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """World points (m, 3) to px (m, 2)."""
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    return np.stack([centre[0] - focal * local[:, 0] / local[:, 2], centre[1] + focal * local[:, 1] / local[:, 2]], 1)


def render(pose: np.ndarray, size: int, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """The frame (RGB) and its labels."""
    grid = np.arange(size) + 0.5 - size / 2
    x, y = np.meshgrid(grid / focal, -grid / focal)
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    origin = pose[:3, 3] / RADII
    scaled = directions / RADII
    a, b, c = (scaled**2).sum(-1), scaled @ origin, origin @ origin - 1
    root = b**2 - a * c
    hit = root > 0
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    points = pose[:3, 3] + depth[..., None] * directions
    image, labels = plate(size), np.zeros((size, size), np.uint8)
    torso = np.hypot(np.arange(size)[None, :] - size / 2, 1.2 * (np.arange(size)[:, None] - 1.15 * size)) < 0.45 * size
    image[torso], labels[torso] = (30, 110, 40), 1
    texture = 150 + 60 * np.sin(9 * points + np.array([0, 1, 2]))
    image[hit], labels[hit] = np.clip(texture, 0, 255).astype(np.uint8)[hit], 2
    lips = hit & (np.linalg.norm((points - front(*KEYPOINTS["mouth"])) / [0.2, 1, 0.1], axis=-1) < 1)
    image[lips], labels[lips] = (200, 30, 30), 3
    return image, labels


def plate(size: int) -> np.ndarray:
    """The backdrop."""
    shade = np.linspace(60, 120, size)
    return np.stack(
        [np.tile(shade, (size, 1)), np.tile(shade[:, None], (1, size)), np.full((size, size), 180)], -1
    ).astype(np.uint8)


def mesh_points(rng: np.random.Generator) -> np.ndarray:
    """478 points of the head, the keypoints and the face's outline among them."""
    points = np.array([front(*place) for place in rng.uniform(-0.4, 0.4, (478, 2))])
    angles = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    for index, angle in zip(FACE_OVAL, angles, strict=True):
        points[index] = front(0.4 * np.sin(angle), 0.6 * np.cos(angle))
    for name, indices in MESH.keypoints.items():
        points[list(indices)] = front(*KEYPOINTS[name])
    return points


def write_clip(folder: Path, num_frames: int = 22, size: int = 64, channels: int = 8, seed: int = 0) -> Path:
    """Writes a data set in our format; the landmarks are exact."""
    rng = np.random.default_rng(seed)
    focal, centre = 1.9 * size, (size / 2, size / 2)
    for name in ("images", "masks", "audio_features"):
        (folder / name).mkdir(parents=True)
    points, frames, landmarks = mesh_points(rng), [], []
    for i, pose in enumerate(poses(num_frames)):
        image, labels = render(pose, size, focal)
        cv2.imwrite(str(folder / f"images/{i:05d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(folder / f"masks/{i:05d}.png"), labels)
        seen = project(points, pose, focal, centre)
        landmarks.append(seen)
        mouth = project(front(*KEYPOINTS["mouth"])[None], pose, focal, centre)[0]
        frames.append(
            {
                "file_path": f"images/{i:05d}.jpg",
                "transform_matrix": pose.tolist(),
                "time": i / max(num_frames - 1, 1),
                "eye_openness": float(0.5 + 0.5 * np.cos(i)),
                "mouth_opening": float(0.05 + 0.05 * np.sin(i)),
                "face_box": [*seen[FACE_OVAL].min(0).tolist(), *seen[FACE_OVAL].max(0).tolist()],
                "lip_box": [*(mouth - 0.1 * size).tolist(), *(mouth + 0.1 * size).tolist()],
                "tracked": True,
            }
        )
    cv2.imwrite(str(folder / "background.png"), plate(size)[..., ::-1])
    np.save(folder / "landmarks.npy", np.array(landmarks, np.float32))
    write_features(folder, rng.normal(size=(num_frames, 16, channels)).astype(np.float32))
    write_transforms(folder, size, focal, "mel", frames)
    return folder


def write_features(folder: Path, windows: np.ndarray) -> None:
    """Writes the data set's audio features."""
    np.save(folder / "audio_features/mel.npy", windows)
    info = {"extractor": "mel", "model": None, "channels": windows.shape[2], "window": 16, "fps": 25.0}
    (folder / "audio_features/mel.json").write_text(json.dumps(info | {"shape": list(windows.shape)}))


def edit_transforms(folder: Path, edit) -> None:
    """Applies a function to the object in transforms.json, in place."""
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    edit(meta)
    path.write_text(json.dumps(meta))
