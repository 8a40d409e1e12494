"""Which point of the head a pixel shows: landmarks of a frame come from their places in the mean face."""

import numpy as np
import torch
from support.made_up_lids import KEYPOINTS, open_lids

from ntalker_ns.face.mesh_indices import MESH, lip_contours
from ntalker_ns.field.gates import brow_gate, eye_gate, speech_gate
from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import FaceState
from ntalker_ns.rendering.surface import canonical_points, mouth_parts

OPS = Ops("cpu", "reference")
DROP = 0.06
"""How far the lower lip and the jaw go down, world units."""


def ellipse(count: int, width: float, height: float) -> np.ndarray:
    """A contour around the mouth."""
    angles = np.arange(count) * 2 * np.pi / count
    middle = KEYPOINTS["mouth"][[0, 2]]
    return middle + np.stack([width * np.cos(angles), height * np.sin(angles)], axis=1)


def face(opening: float, openness: float = 1.0) -> tuple[FaceState, np.ndarray]:
    """A face whose lower lip and jaw have moved down, and its landmarks of lips and jaw in the mean face."""
    outer, inner = lip_contours(len(MESH.lips))
    jaw = np.array([[x, -0.55] for x in np.linspace(-0.15, 0.15, len(MESH.lips) - inner.stop)])
    places = np.concatenate(
        [ellipse(outer.stop, 0.12, 0.05), ellipse(inner.stop - inner.start, 0.09, 0.004), jaw]
    ).astype(np.float32)
    motion = np.zeros((1, len(places), 2), np.float32)
    motion[0, places[:, 1] < -0.3, 1] = -DROP
    still = np.zeros((2, 2), np.float32)
    brows = LandmarkWarp(still, still[None], 0.02)(torch.zeros(1, 1))
    lips = LandmarkWarp(places, motion, 0.005)(torch.tensor([[opening]]))
    lids = torch.from_numpy(open_lids(KEYPOINTS)).float()
    return FaceState(brow_gate(KEYPOINTS), eye_gate(KEYPOINTS), lips, brows, lids, torch.tensor([openness])), places


def at(places: np.ndarray) -> torch.Tensor:
    """Points of the face's front at x and z."""
    return torch.tensor([[x, -0.5, z] for x, z in places], dtype=torch.float32)


def test_a_landmark_is_at_its_place_in_the_mean_face():
    open_face, places = face(1.0)
    moved = open_face.lips.positions[0].numpy()
    lips = slice(0, lip_contours(len(places))[1].stop)
    gate = speech_gate(KEYPOINTS)
    canonical = canonical_points(OPS, at(moved[lips]), gate, open_face)
    apart = (canonical - at(places[lips])).norm(dim=1)
    assert apart.mean() < 0.1 * DROP
    closed, _ = face(0.0)
    torch.testing.assert_close(canonical_points(OPS, at(places[lips]), gate, closed), at(places[lips]))


def test_far_from_mouth_brows_and_eyes_nothing_moves():
    points = torch.tensor([[0.6, 0.5, 0.7], [0.0, 0.9, -0.9]])
    state, _ = face(1.0, openness=0.0)
    torch.testing.assert_close(canonical_points(OPS, points, speech_gate(KEYPOINTS), state), points)


def test_skin_on_a_closed_lid_comes_from_above_the_eye():
    eye = torch.tensor(KEYPOINTS["left_eye"][None]).float()
    gate = speech_gate(KEYPOINTS)
    rise = {openness: canonical_points(OPS, eye, gate, face(0.0, openness)[0]) - eye for openness in (0.0, 1.0)}
    assert float(rise[0.0][0, 2]) > 0.01
    assert float(rise[1.0].norm()) < 1e-6


def test_the_mouth_inside_opens_with_the_lips():
    middle = KEYPOINTS["mouth"][[0, 2]]
    offsets = np.array([[0.0, 0.0], [0.0, -0.03], [0.0, 0.03], [0.11, 0.0], [0.3, 0.6]])
    points = at(middle + offsets)
    gate = speech_gate(KEYPOINTS)
    assert mouth_parts(OPS, points, gate, face(1.0)[0]).tolist() == [2, 2, 1, 1, 0]
    assert mouth_parts(OPS, points, gate, face(0.0)[0]).tolist() == [2, 1, 1, 1, 0]
