"""Face-mesh landmarks of one person, frame after frame (mediapipe, 478 points with irises)."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.console import quiet_native_logs
from ntalker_ns.face.mesh_indices import NUM_POINTS

FARTHEST = 0.25
"""Heights of the picture by which a face may be away from where the person is expected: a head that moves fast gets a
third as far between two looks of the survey, and another person's face is farther away."""
MEASURED_AT = 512
"""Longest side, in px, that pictures are scaled to before landmarks are sought; the unit of their distances."""


class FaceMesh:
    """Finds the landmarks of one face in consecutive frames.

    Args:
        crowded: whether other faces are in the picture; then all of them are followed, and the one nearest to where
            the person is expected is taken.
    """

    def __init__(self, crowded: bool = False):
        from mediapipe.python.solutions import face_mesh

        self._crowded = crowded
        with quiet_native_logs():
            self._mesh = face_mesh.FaceMesh(
                static_image_mode=False,
                max_num_faces=4 if crowded else 1,
                refine_landmarks=True,
                min_detection_confidence=0.5,
                min_tracking_confidence=0.5,
            )

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], expected: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "478 3"] | None:
        """Finds the person's landmarks in the next frame.

        Args:
            image: RGB frame.
            expected: where the centre of the person's face should be, px; decides between faces, and a face farther
                away than `FARTHEST` is somebody else's.

        Returns:
            x and y in px (pixel centres at .5) and depth in the same unit relative to the head's centre (smaller is
            nearer to the camera), or None where the person's face is not found.
        """
        found: Any = self._mesh.process(image)
        faces = found.multi_face_landmarks
        if not faces:
            return None
        height, width = image.shape[:2]
        points = [np.array([(p.x, p.y, p.z) for p in face.landmark]) * [width, height, width] for face in faces]
        distances = [float(np.linalg.norm(p[:, :2].mean(axis=0) - expected)) for p in points]
        if min(distances) > FARTHEST * height:
            if not self._crowded:
                # With room for one face it would keep to this one when the person is back.
                self._mesh.reset()
            return None
        nearest = points[int(np.argmin(distances))]
        return nearest if len(nearest) == NUM_POINTS and np.isfinite(nearest).all() else None

    def close(self) -> None:
        """Frees the model."""
        self._mesh.close()

    def __enter__(self) -> "FaceMesh":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def face_landmarks(pictures: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "n 478 2"]:
    """Landmarks of one face on consecutive pictures, in the picture's plane: `face_points` without depth."""
    return face_points(pictures)[..., :2]


def face_points(pictures: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "n 478 3"]:
    """Landmarks of the face on consecutive pictures of one person, with their relative depth.

    Pictures are scaled so that their longest side has `MEASURED_AT` px: on small ones the mesh is coarse.

    Args:
        pictures: RGB, of any sizes.

    Returns:
        x and y in px of the scaled picture and depth in the same unit, NaN where no face is found.
    """
    import cv2

    rows = []
    with FaceMesh() as mesh:
        for picture in pictures:
            scale = MEASURED_AT / max(picture.shape[:2])
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            way = cv2.INTER_CUBIC if scale > 1.0 else cv2.INTER_AREA
            scaled = picture if scale == 1.0 else cv2.resize(picture, size, interpolation=way)
            points = mesh(np.ascontiguousarray(scaled), np.array(size) / 2.0)
            rows.append(np.full((NUM_POINTS, 3), np.nan) if points is None else points)
    return np.array(rows).reshape(-1, NUM_POINTS, 3)
