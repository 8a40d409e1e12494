"""World points of mouth, chin, eyes and nose, triangulated from the landmarks of many frames."""

import numpy as np
from jaxtyping import Float

from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import landmark_set

ROBUST_STEPS = 10
PRIOR_WEIGHT = 1e-5
"""Weight of a prior at the head's centre, per ray: it only decides the depth where the head never turns."""


def triangulate_keypoints(
    landmarks: Float[np.ndarray, "n points 2"],
    camera_to_worlds: Float[np.ndarray, "n 3 4"],
    intrinsics: tuple[float, float, float, float],
) -> dict[str, Float[np.ndarray, "3"]]:
    """Finds the keypoints that the frames' landmarks and poses agree on.

    Args:
        landmarks: in px, NaN where a frame has none; 468 or more points are mediapipe's mesh, 68 are iBUG's.
        camera_to_worlds: OpenGL matrices.
        intrinsics: fl_x, fl_y, cx, cy in px.

    Returns:
        "mouth", "chin", "left_eye", "right_eye", "nose" to a world point, float32.

    Raises:
        NTalkerError: no frame has landmarks, or poses and landmarks do not agree on an upright head.
    """
    keypoints = {}
    for name, indices in landmark_set(landmarks.shape[1]).keypoints.items():
        points = landmarks[:, list(indices)].mean(axis=1)
        seen = np.isfinite(points).all(axis=1)
        if not seen.any():
            raise NTalkerError(f"No training frame has landmarks of the {name}: process the clip again.")
        origins, directions = point_rays(points[seen], camera_to_worlds[seen], intrinsics)
        keypoints[name] = triangulate(origins, directions).astype(np.float32)
    check_upright(keypoints)
    return keypoints


def check_upright(keypoints: dict[str, Float[np.ndarray, "3"]]) -> None:
    """Checks that the head is in its canonical pose: crown to +z, face to -y, its left to +x, in the unit box.

    Raises:
        NTalkerError: it is not, so poses and landmarks do not belong together.
    """
    eyes = (keypoints["left_eye"] + keypoints["right_eye"]) / 2
    upright = eyes[2] > keypoints["mouth"][2] > keypoints["chin"][2]
    facing = keypoints["left_eye"][0] > keypoints["right_eye"][0]
    inside = all(np.abs(point).max() < 1.5 for point in keypoints.values())
    if not (upright and facing and inside):
        found = ", ".join(f"{name} {np.round(point, 2).tolist()}" for name, point in keypoints.items())
        raise NTalkerError(
            f"Camera poses and landmarks do not agree on an upright head facing -y at the origin ({found}): "
            "process the clip again."
        )


def point_rays(
    points: Float[np.ndarray, "n 2"],
    camera_to_worlds: Float[np.ndarray, "n 3 4"],
    intrinsics: tuple[float, float, float, float],
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Origins and unit directions, in the world and float64, of the rays through one pixel position per camera."""
    fl_x, fl_y, cx, cy = intrinsics
    x, y = points.astype(np.float64).T
    in_camera = np.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -np.ones_like(x)], axis=1)
    directions = np.einsum("nij,nj->ni", camera_to_worlds[:, :, :3].astype(np.float64), in_camera)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return camera_to_worlds[:, :, 3].astype(np.float64), directions


def triangulate(origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """The point nearest to all rays: linear least squares, reweighted against outliers (Huber).

    Args:
        origins: of the rays.
        directions: unit vectors.

    Returns:
        The point. Along directions that the rays leave undetermined, it is the one nearest to the world's origin.
    """
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    targets = np.einsum("nij,nj->ni", across, origins)
    weights = np.ones(len(origins))
    point = np.zeros(3)
    for _ in range(ROBUST_STEPS):
        total = weights.sum()
        normal = np.einsum("n,nij->ij", weights, across) / total + PRIOR_WEIGHT * np.eye(3)
        point = np.linalg.solve(normal, weights @ targets / total)
        distance = np.linalg.norm(across @ point - targets, axis=1)
        scale = max(1.5 * float(np.median(distance)), 1e-9)
        weights = np.minimum(1, scale / np.maximum(distance, 1e-12))
    return point
