"""The tables of landmarks, against mediapipe's own connections and the symmetry of a face."""

import numpy as np
import pytest
from mediapipe.python.solutions import face_mesh_connections as connections

from ntalker_ns.errors import NTalkerError
from ntalker_ns.face import mesh_indices as mesh
from ntalker_ns.face.mesh_indices import IBUG, MESH, landmark_set

EDGES = {frozenset(edge) for edge in connections.FACEMESH_TESSELATION | connections.FACEMESH_CONTOURS}
CONTOURS = {
    "oval": mesh.FACE_OVAL,
    "outer lips": mesh.OUTER_LIPS,
    "inner lips": mesh.INNER_LIPS,
    "right eye": mesh.RIGHT_EYE.contour(),
    "left eye": mesh.LEFT_EYE.contour(),
}


def mirrored() -> dict[int, int]:
    """The partner of each point, from the middle line outwards: neighbours of partners are partners."""
    pairs = {int(i): int(j) for i, j in zip(mesh.FACE_OVAL, np.roll(mesh.FACE_OVAL[::-1], 1), strict=True)}
    for right, left in mesh.MIRRORED_PAIRS:
        pairs |= {right: left, left: right}
    outer, inner = mesh.OUTER_LIPS.tolist(), mesh.INNER_LIPS.tolist()
    for contour in (outer, inner):
        half = len(contour) // 2
        pairs |= {contour[k]: contour[(half - k) % len(contour)] for k in range(len(contour))}
    for right, left in zip(mesh.RIGHT_EYE, mesh.LEFT_EYE, strict=True):
        pairs |= dict(zip(right, left[::-1], strict=True)) | dict(zip(left[::-1], right, strict=True))
    return pairs | dict(zip(mesh.RIGHT_BROW, brow_outwards(), strict=True))


def brow_outwards() -> tuple[int, ...]:
    """The left brow in the right one's order."""
    return (*mesh.LEFT_BROW[:5], *mesh.LEFT_BROW[5:])


@pytest.mark.parametrize("name", CONTOURS)
def test_contours_are_closed_loops_of_the_mesh(name: str):
    loop = [int(i) for i in CONTOURS[name]]
    assert len(set(loop)) == len(loop)
    assert all(frozenset(edge) in EDGES for edge in zip(loop, loop[1:] + loop[:1], strict=True))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mesh.FACE_OVAL, connections.FACEMESH_FACE_OVAL),
        ([*mesh.OUTER_LIPS, *mesh.INNER_LIPS], connections.FACEMESH_LIPS),
        (mesh.RIGHT_EYE.contour(), connections.FACEMESH_RIGHT_EYE),
        (mesh.LEFT_EYE.contour(), connections.FACEMESH_LEFT_EYE),
        (mesh.RIGHT_BROW, connections.FACEMESH_RIGHT_EYEBROW),
        (mesh.LEFT_BROW, connections.FACEMESH_LEFT_EYEBROW),
    ],
)
def test_parts_are_mediapipes(ours: list[int], theirs: frozenset):
    assert set(map(int, ours)) == {i for edge in theirs for i in edge}


def test_left_mirrors_right():
    partner = mirrored()
    assert {partner[i] for i in mesh.RIGHT_EYE_CORNERS} == set(mesh.LEFT_EYE_CORNERS)
    assert [tuple(partner[i] for i in pair) for pair in mesh.RIGHT_EYELIDS] == list(mesh.LEFT_EYELIDS)
    assert partner[mesh.RIGHT_EAR] == mesh.LEFT_EAR
    assert partner[mesh.MOUTH_CORNERS[0]] == mesh.MOUTH_CORNERS[1]
    for index in (mesh.FOREHEAD_TOP, mesh.CHIN, mesh.UPPER_INNER_LIP, mesh.LOWER_INNER_LIP):
        assert partner[index] == index
    assert all(partner[i] == j for i, j in mesh.MIRRORED_PAIRS)


def test_parts_do_not_overlap():
    parts = [mesh.FACE_OVAL, mesh.OUTER_LIPS, mesh.INNER_LIPS, *mesh.MOVING_OUTLINES]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert not set(mesh.RIGID.tolist()) & {*MESH.lips, *mesh.RIGHT_BROW, *mesh.LEFT_BROW}
    assert not set(mesh.JAW_MOVEMENT) & set(mesh.FIXED_BY_JAW)


@pytest.mark.parametrize(("parts", "count"), [(MESH, mesh.SURFACE_POINTS), (IBUG, 68)])
def test_landmark_sets_are_within_their_numbers(parts: mesh.LandmarkSet, count: int):
    assert landmark_set(count) is parts
    for table in (parts.lips, parts.brows, parts.outline):
        assert len(set(table)) == len(table) and 0 <= min(table) <= max(table) < count
    for eye, name in zip(parts.eyes, ("right_eye", "left_eye"), strict=True):
        assert eye.upper[0] == eye.lower[0] and eye.upper[-1] == eye.lower[-1]
        assert {eye.upper[0], eye.upper[-1]} == set(parts.keypoints[name])


def test_other_landmarks_are_refused():
    with pytest.raises(NTalkerError, match="not 5"):
        landmark_set(5)
