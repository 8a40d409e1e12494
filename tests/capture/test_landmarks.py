"""Whose landmarks are taken."""

from types import SimpleNamespace

import numpy as np
import pytest

from ntalker_ns.capture.landmarks import FaceMesh
from ntalker_ns.face.mesh_indices import NUM_POINTS

IMAGE = np.zeros((200, 200, 3), np.uint8)


class MadeUpMesh:
    """mediapipe's face mesh that finds faces at the places it is told."""

    def __init__(self):
        self.faces: list[tuple[float, float]] = []
        self.resets = 0

    def process(self, image: np.ndarray) -> SimpleNamespace:
        points = [[SimpleNamespace(x=x, y=y, z=0.0)] * NUM_POINTS for x, y in self.faces]
        return SimpleNamespace(multi_face_landmarks=[SimpleNamespace(landmark=p) for p in points])

    def reset(self) -> None:
        self.resets += 1


def made_up(monkeypatch: pytest.MonkeyPatch, crowded: bool) -> tuple[FaceMesh, MadeUpMesh]:
    from mediapipe.python.solutions import face_mesh

    found = MadeUpMesh()
    monkeypatch.setattr(face_mesh, "FaceMesh", lambda **options: found)
    return FaceMesh(crowded), found


@pytest.mark.parametrize("crowded", [False, True])
def test_a_face_far_from_the_person_is_nobodys(monkeypatch: pytest.MonkeyPatch, crowded: bool):
    mesh, found = made_up(monkeypatch, crowded)
    expected = np.array([100.0, 100.0])
    assert mesh(IMAGE, expected) is None
    found.faces = [(0.9, 0.5)]
    assert mesh(IMAGE, expected) is None
    # One that follows a single face would not let go of it.
    assert found.resets == (0 if crowded else 1)
    found.faces = [(0.9, 0.5), (0.6, 0.55), (0.2, 0.5)]
    taken = mesh(IMAGE, expected)
    assert taken is not None and np.allclose(taken[:, :2], [120.0, 110.0])
