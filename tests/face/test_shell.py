"""The shell around a made-up face: an ellipsoid's front in the head's world."""

import numpy as np
import pytest
from support.capture_scene import face_shape

from ntalker_ns.capture.placing import FROM_CV
from ntalker_ns.face import mesh_indices
from ntalker_ns.face import shell as face_shell
from ntalker_ns.face.shell import FaceShell

RESOLUTION = 48
CELL = 2.0 / RESOLUTION


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    points = 0.5 * face_shape(np.random.default_rng(0)) @ FROM_CV.T
    # Lips in the middle of the lower face, on its surface.
    height, depth = -0.3, np.sort(points[:, 1])[20]
    mouth = list(mesh_indices.MESH.keypoints["mouth"])
    points[mouth] = [[x, depth, height + z] for x, z in ((-0.1, 0), (0.1, 0), (0, 0.05), (0, -0.05))]
    return points.astype(np.float32)


def cell_of(points: np.ndarray) -> np.ndarray:
    return np.clip((points + 1.0) / CELL, 0, RESOLUTION - 1).astype(int)


def test_the_surface_goes_through_the_face(face: np.ndarray) -> None:
    shell = FaceShell.around(face, RESOLUTION)
    skin = face[: mesh_indices.SURFACE_POINTS]
    i, _, k = cell_of(skin).T
    # Within a column an ellipsoid's flank falls by more than its front does.
    assert np.median(np.abs(shell.surface[i, k] - skin[:, 1])) < CELL
    assert shell.unit == pytest.approx(0.4, rel=0.6)
    assert ((shell.front < shell.surface) & (shell.surface < shell.back)).all()


def test_the_face_is_in_its_shell_and_nothing_is_before_it(face: np.ndarray) -> None:
    shell = FaceShell.around(face, RESOLUTION)
    cells = shell.cells()
    assert cells[tuple(cell_of(face[: mesh_indices.SURFACE_POINTS]).T)].mean() > 0.99
    nose = face[np.argmin(face[:, 1])]
    x, _, z = cell_of(nose[None])[0]
    before = nose[1] - face_shell.BEFORE * shell.unit - 2 * CELL
    assert not cells[x, : cell_of(np.array([[0.0, before, 0.0]]))[0, 1], z].any()


def test_only_the_mouth_is_deep(face: np.ndarray) -> None:
    shell = FaceShell.around(face, RESOLUTION)
    depth = (shell.back - shell.surface) / shell.unit
    mouth, brow = ((cell_of(np.array([[0.0, 0.0, z]]))[0]) for z in (-0.3, 0.1))
    assert depth[mouth[0], mouth[2]] == pytest.approx(face_shell.BEHIND_LIPS)
    assert depth[brow[0], brow[2]] == pytest.approx(face_shell.BEHIND)


def test_beside_the_face_the_head_is_round_and_ends_behind_the_ears(face: np.ndarray) -> None:
    shell = FaceShell.around(face, RESOLUTION)
    ears = face[[mesh_indices.LEFT_EAR, mesh_indices.RIGHT_EAR], 1].mean()
    crown = shell.surface[RESOLUTION // 2, RESOLUTION // 2 :]
    beside = crown[np.argmax(crown > face[:, 1].max() - 0.2 * shell.unit) :]
    assert (np.diff(beside) >= -1e-9).all()
    assert shell.surface[0, 0] == pytest.approx(ears)
    assert shell.back[0, 0] >= ears + face_shell.BEHIND_EARS * shell.unit
