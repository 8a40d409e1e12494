"""dlib's face network, against descriptors by its TensorFlow.js edition (face-api 1.7.15, on its CPU backend)."""

import numpy as np

from ntalker_ns.evaluation.metrics.face_network import PADDING, SIDE, TEMPLATE, FaceNetwork, face_chip
from ntalker_ns.evaluation.metrics.identity import described_faces
from ntalker_ns.face.mesh_indices import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, UNDER_NOSE

# The first 16 of 128 numbers, and the norm of all.
FIRST = [
    -0.038979,
    0.107843,
    0.038917,
    0.000398,
    -0.069236,
    -0.08227,
    -0.028758,
    -0.022618,
    0.086133,
    0.004508,
    0.202572,
    -0.021322,
    -0.239497,
    -0.06571,
    0.016484,
    0.065405,
]
NORM = 1.267634


def waves() -> np.ndarray:
    y, x, channel = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.arange(3), indexing="ij")
    phase = 0.05 * (channel + 1) * x + 0.03 * (3 - channel) * y
    return np.floor(127.5 + 127.5 * np.sin(phase)).astype(np.uint8)


def test_descriptors_are_the_originals():
    found = FaceNetwork()(waves())
    assert found.shape == (128,)
    np.testing.assert_allclose(found[:16], FIRST, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found), NORM, atol=2e-5)


def test_a_face_is_brought_to_the_template():
    """Points of a turned and shrunk face lie in the chip where dlib's template has them."""
    target = (TEMPLATE + PADDING) / (1.0 + 2.0 * PADDING) * SIDE
    turn = np.array([[0.8, -0.3], [0.3, 0.8]])
    landmarks = np.full((478, 2), 100.0)
    places = [*RIGHT_EYE_CORNERS, *LEFT_EYE_CORNERS, UNDER_NOSE]
    landmarks[places] = target @ turn.T + [80.0, 30.0]
    picture = np.zeros((240, 240, 3), np.uint8)
    for x, y in landmarks[places]:
        picture[int(y), int(x)] = 255
    chip = face_chip(picture, landmarks)[..., 0].astype(float)
    for x, y in target:
        around = chip[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
        assert around.max() > 60
    assert (chip > 60).sum() < 40


def test_frames_without_a_face_are_left_out():
    landmarks = np.zeros((3, 478, 2))
    landmarks[1] = np.nan
    pictures = [np.full((4, 4, 3), level, np.uint8) for level in (1, 2, 3)]
    found = described_faces(
        lambda picture, points: picture[0, 0].astype(float), pictures, pictures, landmarks, landmarks
    )
    np.testing.assert_array_equal(found[[0, 2], 0, 0], [1.0, 3.0])
    assert np.isnan(found[1]).all()
