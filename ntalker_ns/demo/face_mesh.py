"""The head's surface: face-mesh landmarks and hair in one triangle mesh, with openings for mouth and eyes."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int

from ntalker_ns.face.mesh_indices import (
    CHIN,
    EYES,
    FACE_OVAL,
    FIXED_BY_JAW,
    FIXED_BY_LIDS,
    JAW_MOVEMENT,
    LEFT_EAR,
    LOWER_LIP_ROWS,
    MOUTH,
    RIGHT_EAR,
    SURFACE_POINTS,
)

_DEPTH = 70.0
"""How far the crown bulges towards the camera from the plane of the ears, px."""


@dataclass(frozen=True)
class HeadMesh:
    """A triangle mesh with linear deformations.

    Attributes:
        vertices: at rest, photograph px, z away from the camera.
        texture: where each vertex lies in the atlas, px.
        triangles: three vertices each; those behind the openings come first.
        behind: how many triangles lie behind the openings.
        jaw: how far each vertex moves as the gap between the lips grows by one px.
        lids: how far each vertex moves from open eyes to closed ones, px.
    """

    vertices: Float[np.ndarray, "v 3"]
    texture: Float[np.ndarray, "v 2"]
    triangles: Int[np.ndarray, "t 3"]
    behind: int
    jaw: Float[np.ndarray, "v 3"]
    lids: Float[np.ndarray, "v 3"]


def build_head_mesh(
    landmarks: Float[np.ndarray, "478 3"], head: Float[np.ndarray, "h w"], photo_width: int
) -> HeadMesh:
    """Builds the mesh of a head.

    Args:
        landmarks: face-mesh landmarks of the photograph, px, z away from the camera.
        head: the head's coverage in the photograph, in [0, 1].
        photo_width: where the atlas's right half begins, px.
    """
    skin = np.concatenate([landmarks[:SURFACE_POINTS], _hair_points(landmarks, head)])
    triangles = _triangulate(skin, head)
    jaw, lids = _deform_by_jaw(skin, triangles), _deform_by_lids(skin, triangles)
    patches, patch_triangles = _patches(landmarks)
    vertices = np.concatenate([skin, patches])
    texture = vertices[:, :2] + np.where(np.arange(len(vertices)) < len(skin), 0, photo_width)[:, None] * [1.0, 0.0]
    still = np.zeros_like(patches)
    return HeadMesh(
        vertices=vertices,
        texture=texture,
        triangles=np.concatenate([patch_triangles + len(skin), triangles]),
        behind=len(patch_triangles),
        jaw=np.concatenate([jaw, still]),
        lids=np.concatenate([lids, still]),
    )


def _hair_points(landmarks: Float[np.ndarray, "478 3"], head: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "p 3"]:
    """Points around the face: a lattice over hair and ears, and a ring just outside the head's outline."""
    covered = (head > 0.3).astype(np.uint8)
    oval = landmarks[FACE_OVAL, :2].astype(np.float32)
    outline = max(cv2.findContours(cv2.dilate(covered, np.ones((13, 13))), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0],
                  key=cv2.contourArea)[:, 0, :]  # fmt: skip
    ring = outline[:: max(1, len(outline) // 64)].astype(np.float64) + 0.5
    lattice = np.stack(np.meshgrid(np.arange(100, 340, 9.0), np.arange(4, 200, 9.0)), axis=-1).reshape(-1, 2)
    inner = cv2.erode(covered, np.ones((5, 5)))
    lattice = lattice[inner[lattice[:, 1].astype(int), lattice[:, 0].astype(int)] > 0]
    flat = np.concatenate([lattice, ring])
    outside = np.array([cv2.pointPolygonTest(oval, (float(x), float(y)), True) < -4.0 for x, y in flat])
    flat = flat[outside]
    return np.column_stack([flat, _hair_depth(flat, landmarks, head)])


def _hair_depth(
    points: Float[np.ndarray, "p 2"], landmarks: Float[np.ndarray, "478 3"], head: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "p"]:
    """Depth outside the face: an ellipsoid as wide as the head, joined to the landmarks over a few px."""
    rows, columns = np.nonzero(head > 0.5)
    centre = np.array([columns.min() + columns.max(), rows.min() + landmarks[CHIN, 1]]) / 2.0
    radii = np.array([columns.max() - columns.min(), landmarks[CHIN, 1] - rows.min()]) / 2.0
    ears = landmarks[[RIGHT_EAR, LEFT_EAR], 2].mean()

    def ellipsoid(flat: np.ndarray) -> np.ndarray:
        squared = np.sum(((flat - centre) / (radii * 1.03)) ** 2, axis=1)
        return ears + 8.0 - _DEPTH * np.sqrt(np.clip(1.0 - squared, 0.0, 1.0))

    oval = landmarks[FACE_OVAL]
    away = np.linalg.norm(points[:, None] - oval[None, :, :2], axis=2)
    weights = np.exp(-away / 6.0)
    step = (weights * (oval[:, 2] - ellipsoid(oval[:, :2]))).sum(axis=1) / weights.sum(axis=1)
    nearest = away.argmin(axis=1)
    # A rim steeper than this would fold over in the widest turns.
    rim = oval[nearest, 2] + 1.2 * away.min(axis=1)
    return np.minimum(ellipsoid(points) + step * np.exp(-away.min(axis=1) / 25.0), rim)


def _triangulate(skin: Float[np.ndarray, "v 3"], head: Float[np.ndarray, "h w"]) -> Int[np.ndarray, "t 3"]:
    """Triangles over all points but those whose centre lies in the mouth or in an eye, and those that show nothing."""
    from scipy.spatial import Delaunay

    triangles = Delaunay(skin[:, :2]).simplices
    centres = skin[triangles, :2].mean(axis=1)
    hole = np.zeros(len(triangles), bool)
    for opening in (MOUTH, *EYES):
        polygon = skin[opening.contour(), :2].astype(np.float32)
        hole |= [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y in centres]
    return triangles[~hole & [_shows(skin[corners, :2], head) for corners in triangles]]


def _shows(corners: Float[np.ndarray, "3 2"], head: Float[np.ndarray, "h w"]) -> bool:
    """Whether any of the head lies under a triangle."""
    mask = np.zeros(head.shape, np.uint8)
    left, top = np.maximum(corners.min(axis=0).astype(int) - 1, 0)
    right, bottom = corners.max(axis=0).astype(int) + 2
    cv2.fillConvexPoly(mask, np.round(corners - 0.5).astype(np.int32), (1,))
    return bool((head[top:bottom, left:right][mask[top:bottom, left:right] > 0] > 0.004).any())


def _deform_by_jaw(skin: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> Float[np.ndarray, "v 3"]:
    """Movement per px of gap: the lower lip away from the upper one, the jaw with it, the skin in between smoothly."""
    apart = skin[list(MOUTH.lower)] - skin[list(MOUTH.upper)]
    per_px = apart / np.linalg.norm(apart[5, :2])
    fixed = {index: np.zeros(3) for index in FIXED_BY_JAW} | {
        index: np.zeros(3) for index in range(SURFACE_POINTS, len(skin))
    }
    for row in LOWER_LIP_ROWS:
        fixed |= dict(zip(row, per_px[1:-1], strict=True))
    # The jaw turns about a hinge near the ears, so the chin goes back as it goes down.
    fixed |= {index: share * np.array([per_px[5, 0], per_px[5, 1], 0.3]) for index, share in JAW_MOVEMENT.items()}
    below = skin[:, 1] > skin[CHIN, 1] - 12.0
    ring = [index for index in range(SURFACE_POINTS, len(skin)) if below[index]]
    for index in ring:
        del fixed[index]
    return _harmonic(skin, triangles, fixed)


def _deform_by_lids(skin: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> Float[np.ndarray, "v 3"]:
    """Movement from open to closed eyes: upper lids onto lower ones, the skin up to the brows after them."""
    near = np.zeros(len(skin), bool)
    for eye in EYES:
        centre = skin[eye.contour(), :2].mean(axis=0)
        width = np.linalg.norm(skin[eye.upper[0], :2] - skin[eye.upper[-1], :2])
        away = np.abs(skin[:, :2] - centre) / [0.65 * width, 0.8 * width]
        near |= (away.max(axis=1) < 1.0) & (skin[:, 1] < centre[1] + 1.0)
    near[list(FIXED_BY_LIDS)] = False
    fixed = {int(index): np.zeros(3) for index in np.nonzero(~near)[0]}
    for eye in EYES:
        fixed |= {index: np.zeros(3) for index in (*eye.lower, eye.upper[0], eye.upper[-1])}
        for upper, lower in zip(eye.upper[1:-1], eye.lower[1:-1], strict=True):
            fixed[upper] = skin[lower] - skin[upper]
    return _harmonic(skin, triangles, fixed)


def _harmonic(
    skin: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"], fixed: dict[int, np.ndarray]
) -> Float[np.ndarray, "v 3"]:
    """The smoothest movement of all vertices that has the given values at some: solves the mesh's Laplace equation."""
    weights = np.zeros((len(skin), len(skin)))
    for first, second in ((0, 1), (1, 2), (2, 0)):
        a, b = triangles[:, first], triangles[:, second]
        weights[a, b] = weights[b, a] = 1.0 / np.maximum(np.linalg.norm(skin[a] - skin[b], axis=1), 0.5)
    known = np.array(sorted(fixed))
    free = np.setdiff1d(np.nonzero(weights.sum(axis=1) > 0)[0], known)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    movement = np.zeros((len(skin), 3))
    movement[known] = [fixed[index] for index in known]
    movement[free] = np.linalg.solve(laplacian[np.ix_(free, free)], weights[np.ix_(free, known)] @ movement[known])
    return movement


def _patches(landmarks: Float[np.ndarray, "478 3"]) -> tuple[Float[np.ndarray, "p 3"], Int[np.ndarray, "q 3"]]:
    """Flat rectangles behind mouth and eyes, on which teeth and eyeballs are seen."""
    corners, triangles = [], []
    for opening, margin, depth in ((MOUTH, (2.0, 4.0, 11.0), 5.0), *((eye, (2.0, 3.0, 2.0), 1.0) for eye in EYES)):
        points = landmarks[opening.contour()]
        (left, top), (right, bottom) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        side, above, below = margin
        xs, ys = (left - side, right + side), (top - above, bottom + below)
        z = points[:, 2].mean() + depth
        start = 4 * len(triangles) // 2
        corners += [(x, y, z) for y in ys for x in xs]
        triangles += [(start, start + 1, start + 2), (start + 1, start + 2, start + 3)]
    return np.array(corners), np.array(triangles)
