"""Lip shapes: free of head pose, made from training frames alone, in units of the first component."""

import numpy as np
from support.synthetic_clip import poses, project

from ntalker_ns.face.mesh_indices import MESH
from ntalker_ns.face.shape_basis import BROW_SHAPE_DIM, LIP_SHAPE_DIM, PosedLandmarks, brow_space, lip_space

FOCAL, CENTRE = 300.0, (64.0, 64.0)
INTRINSICS = (FOCAL, FOCAL, *CENTRE)


def talking_landmarks(opening: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of a turning head whose lips part by `opening`: odd landmarks move down, even ones stay."""
    rng = np.random.default_rng(seed)
    still = rng.uniform([-0.2, -0.55, -0.4], [0.2, -0.45, -0.2], size=(478, 3))
    cameras = poses(len(opening))[:, :3]
    frames = []
    for pose, gap in zip(cameras, opening, strict=True):
        points = still.copy()
        points[1::2, 2] -= gap
        frames.append(project(points, np.vstack([pose, [0, 0, 0, 1]]), FOCAL, CENTRE))
    return np.stack(frames).astype(np.float32), cameras.astype(np.float32)


def test_the_first_component_is_the_opening_whatever_the_pose() -> None:
    opening = 0.03 * (1 + np.sin(np.arange(40)))
    landmarks, cameras = talking_landmarks(opening)
    shapes = lip_space(PosedLandmarks(landmarks, cameras, INTRINSICS, np.ones(40, bool))).shapes
    assert shapes.shape == (40, LIP_SHAPE_DIM) and shapes.dtype == np.float32
    assert abs(np.corrcoef(shapes[:, 0], opening)[0, 1]) > 0.99
    np.testing.assert_allclose(shapes.std(axis=0)[0], 1.0, rtol=1e-3)
    assert shapes.std(axis=0)[1:].max() < 0.2


def test_held_out_frames_do_not_shape_the_space() -> None:
    opening = 0.03 * (1 + np.sin(np.arange(30)))
    landmarks, cameras = talking_landmarks(opening)
    is_train = np.arange(30) < 24
    before = lip_space(PosedLandmarks(landmarks, cameras, INTRINSICS, is_train)).shapes
    changed = landmarks.copy()
    changed[24:, list(MESH.lips)] += 5.0
    after = lip_space(PosedLandmarks(changed, cameras, INTRINSICS, is_train)).shapes
    np.testing.assert_allclose(after[:24], before[:24], atol=1e-5)
    assert np.abs(after[24:] - before[24:]).max() > 0.1


def test_frames_without_landmarks_are_interpolated() -> None:
    landmarks, cameras = talking_landmarks(0.03 * (1 + np.sin(np.arange(20))))
    landmarks[7] = np.nan
    shapes = lip_space(PosedLandmarks(landmarks, cameras, INTRINSICS, np.ones(20, bool))).shapes
    np.testing.assert_allclose(shapes[7], 0.5 * (shapes[6] + shapes[8]), atol=1e-5)


def test_two_frames_are_enough_to_not_fail() -> None:
    landmarks, cameras = talking_landmarks(np.array([0.0, 0.05]))
    shapes = lip_space(PosedLandmarks(landmarks, cameras, INTRINSICS, np.ones(2, bool))).shapes
    assert np.isfinite(shapes).all() and np.all(shapes[:, 2:] == 0)


def test_places_and_motions_say_where_the_landmarks_are() -> None:
    opening = 0.03 * (1 + np.sin(np.arange(40)))
    landmarks, cameras = talking_landmarks(opening)
    space = lip_space(PosedLandmarks(landmarks, cameras, INTRINSICS, np.ones(40, bool)))
    rng = np.random.default_rng(0)
    still = rng.uniform([-0.2, -0.55, -0.4], [0.2, -0.45, -0.2], size=(478, 3))[list(MESH.lips)][:, [0, 2]]
    odd = np.array(MESH.lips) % 2 == 1
    for frame in (3, 17):
        expected = still - np.stack([np.zeros(len(still)), odd * opening[frame]], axis=1)
        found = space.places + np.einsum("c,cpx->px", space.shapes[frame], space.motions)
        np.testing.assert_allclose(found, expected, atol=0.004)


def test_brows_are_seen_too_but_not_their_jitter() -> None:
    frames = np.arange(120)
    raised, jitter = 0.03 * np.sin(0.1 * frames), 0.01 * (-1.0) ** frames
    landmarks, cameras = talking_landmarks(raised + jitter)
    space = brow_space(PosedLandmarks(landmarks, cameras, INTRINSICS, np.ones(120, bool)))
    assert space.shapes.shape == (120, BROW_SHAPE_DIM) and space.motions.shape[1:] == space.places.shape
    assert abs(np.corrcoef(space.shapes[:, 0], raised)[0, 1]) > 0.99
    size = np.abs(np.diff(space.shapes[:, 0])).mean() / space.shapes[:, 0].std()
    true = np.abs(np.diff(raised)).mean() / raised.std()
    assert size < 1.3 * true


def test_the_68_points_have_lips_and_brows() -> None:
    landmarks, cameras = talking_landmarks(0.03 * (1 + np.sin(np.arange(20))))
    face = PosedLandmarks(landmarks[:, :68], cameras, INTRINSICS, np.ones(20, bool))
    assert lip_space(face).places.shape == (29, 2)
    assert brow_space(face).places.shape == (22, 2)
