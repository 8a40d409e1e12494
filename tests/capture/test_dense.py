"""Poses aligned by texture, on pictures rendered with known poses."""

from dataclasses import replace

import cv2
import numpy as np
from support.capture_scene import make_scene, rotation_error

from ntalker_ns.capture import dense
from ntalker_ns.capture.tracking import Track, TrackingOptions
from ntalker_ns.face import rotations


def textured_plane(track: Track, size: int = 512) -> list[np.ndarray]:
    """Pictures of a flat, randomly textured face in every pose of a track: each is a homography of the texture."""
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512)).astype(np.float32), (0, 0), 3)
    texture = np.clip((texture - texture.mean()) * 6 + 128, 0, 255)
    low, high = track.shape[:, :2].min(axis=0) - 0.1, track.shape[:, :2].max(axis=0) + 0.1
    to_face = np.array([[(high - low)[0] / 512, 0, low[0]], [0, (high - low)[1] / 512, low[1]], [0, 0, 1]])
    camera = np.array([[track.focal, 0, track.centre[0]], [0, track.focal, track.centre[1]], [0, 0, 1]])
    pictures = []
    for rotation, translation in zip(track.rotation, track.translation, strict=True):
        depth = track.shape[0, 2]
        plane = np.stack([rotation[:, 0], rotation[:, 1], rotation[:, 2] * depth + translation], axis=1)
        half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
        homography = np.asarray(half @ camera @ plane @ to_face, np.float64)
        grey = cv2.warpPerspective(texture, homography, (size, size), flags=cv2.INTER_LINEAR, borderValue=(90,))
        pictures.append(grey.astype(np.uint8))
    return pictures


def flat_scene(frames: int = 40):
    """A scene whose face is flat, and its pictures."""
    scene = make_scene(frames=frames, noise=0.0)
    shape = scene.track.shape.copy()
    shape[:, 2] = 0.0
    truth = replace(scene.track, shape=shape)
    return truth, textured_plane(truth)


def test_texture_mends_what_landmarks_got_wrong_together():
    truth, pictures = flat_scene()
    rng = np.random.default_rng(1)
    # Every landmark of a frame is off by the same amount, which no landmark residual shows.
    landmarks = truth.project() + 1.5 * rng.normal(size=(40, 1, 2))
    wrong = replace(
        truth,
        rotation=rotations.exp(np.radians(0.4) * rng.normal(size=(40, 3))) @ truth.rotation,
        translation=truth.translation + 0.01 * rng.normal(size=(40, 3)) * [1, 1, 3],
    )
    options = TrackingOptions(focal_prior=1000.0)
    refined, before, after = dense.refine_poses(wrong, landmarks, lambda i: pictures[i], options)
    assert after < 0.6 * before
    assert (
        rotation_error(refined.rotation, truth.rotation).mean()
        < 0.5 * rotation_error(wrong.rotation, truth.rotation).mean()
    )
    slip = [
        np.abs((t.project() - truth.project()) - (t.project() - truth.project()).mean(0)).mean()
        for t in (wrong, refined)
    ]
    assert slip[1] < 0.5 * slip[0]


def test_true_poses_stay():
    truth, pictures = flat_scene(60)
    refined, _, _ = dense.refine_poses(
        truth, truth.project(), lambda i: pictures[i], TrackingOptions(focal_prior=1000.0)
    )
    assert rotation_error(refined.rotation, truth.rotation).max() < 0.1


def test_bridged_frames_keep_to_their_neighbours():
    truth, pictures = flat_scene(60)
    landmarks, valid = truth.project(), np.ones(60, bool)
    landmarks[8:11], valid[8:11] = np.nan, False
    pictures[8:11] = [np.zeros_like(pictures[0])] * 3
    holed = replace(truth, valid=valid)
    refined, _, _ = dense.refine_poses(holed, landmarks, lambda i: pictures[i], TrackingOptions(focal_prior=1000.0))
    assert np.isfinite(refined.rotation).all() and np.isfinite(refined.shape).all()
    assert rotation_error(refined.rotation, truth.rotation)[8:11].max() < 0.5


def test_the_surface_leaves_out_eyes_brows_and_mouth():
    scene = make_scene(frames=1, noise=0.0)
    surface = dense.sample_surface(scene.track.shape)
    assert len(surface.points) > 500
    assert np.allclose(np.linalg.norm(surface.normals, axis=1), 1.0)
    assert (surface.normals[:, 2] < 0).all()
    assert surface.points[:, 1].max() < scene.track.shape[2, 1]
