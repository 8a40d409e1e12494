"""Curves of made-up lids."""

import numpy as np
import pytest
from support.synthetic_clip import poses, project

from ntalker_ns.face.eyelids import COLUMNS, SKIN, lid_curves
from ntalker_ns.face.mesh_indices import IBUG, MESH, LandmarkSet
from ntalker_ns.face.shape_basis import PosedLandmarks

FOCAL, CENTRE = 300.0, (64.0, 64.0)
WIDTH, GAP, BROW = 0.12, 0.05, 0.09
"""Of an eye; between open lids in its middle; of the brow over the corners."""


def blinking_face(openness: np.ndarray, parts: LandmarkSet, points: int) -> PosedLandmarks:
    """Eyes whose lower lid is straight and whose upper lid is a parabola over it."""
    cameras = poses(len(openness))[:, :3]
    frames = []
    for pose, share in zip(cameras, openness, strict=True):
        face = np.tile([0.0, -0.5, -0.3], (points, 1))
        for eye, brow, middle in zip(parts.eyes, parts.under_brows, (-0.2, 0.2), strict=True):
            for part, height in zip((*eye, brow), (share * GAP, 0.0, None), strict=True):
                across = np.linspace(-1, 1, len(part))
                x = middle + 0.5 * WIDTH * across
                z = 0.1 + (np.full(len(part), BROW) if height is None else height * (1 - across**2))
                face[list(part)] = np.stack([x, np.full(len(part), -0.5), z], axis=1)
        frames.append(project(face, np.vstack([pose, [0, 0, 0, 1]]), FOCAL, CENTRE))
    landmarks = np.stack(frames).astype(np.float32)
    return PosedLandmarks(landmarks, cameras.astype(np.float32), (FOCAL, FOCAL, *CENTRE), np.ones(len(openness), bool))


@pytest.mark.parametrize(("parts", "points"), [(MESH, 478), (IBUG, 68)])
@pytest.mark.parametrize("least", [0.0, 0.8])
def test_lids_are_where_they_were_made(parts: LandmarkSet, points: int, least: float):
    openness = least + (1 - least) * (0.5 + 0.5 * np.cos(np.arange(40)))
    curves = lid_curves(blinking_face(openness, parts, points), openness)
    assert curves.shape == (2, COLUMNS, 4) and curves.dtype == np.float32
    across = np.linspace(-1, 1, COLUMNS)
    for eye, middle in zip(curves, (-0.2, 0.2), strict=True):
        np.testing.assert_allclose(eye[:, 0], middle + 0.5 * WIDTH * across, atol=2e-3)
        np.testing.assert_allclose(eye[:, 1], 0.1, atol=2e-3)
        # Four points make a coarse parabola.
        points_across = np.linspace(-1, 1, len(parts.eyes[0].upper))
        gap = np.interp(across, points_across, 1 - points_across**2) * GAP
        np.testing.assert_allclose(eye[:, 2] - eye[:, 1], gap, atol=3e-3)
        np.testing.assert_allclose(eye[:, 3] - eye[:, 2], SKIN * np.maximum(BROW - gap, 0.5 * gap.max()), atol=3e-3)


def test_landmarks_that_fell_together_make_lids_that_do_nothing():
    face = blinking_face(np.ones(5), MESH, 478)
    together = np.repeat(face.landmarks[:, :1], 478, axis=1)
    curves = lid_curves(PosedLandmarks(together, face.camera_to_worlds, face.intrinsics, face.is_train), np.ones(5))
    assert np.isfinite(curves).all() and (np.diff(curves[..., 0], axis=1) > 0).all()
    np.testing.assert_allclose(curves[..., 2:], curves[..., 1:2] + np.zeros(2), atol=1e-4)
