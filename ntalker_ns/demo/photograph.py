"""One photograph turned into a head that can move: its landmarks, its layers and its mesh.

The photograph is scikit-image's astronaut (Eileen Collins, NASA, public domain); it is in that package's wheel.
Everything here is in photograph px: x right, y down, pixel centres at .5, z away from the camera with 0 at the cheeks.
"""

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.console import quiet_native_logs
from ntalker_ns.demo.face_mesh import HeadMesh, build_head_mesh
from ntalker_ns.face.mesh_indices import CHEEKS, CHIN, EYES, FACE_OVAL, FOREHEAD_TOP, MOUTH

CROP_LEFT, CROP_TOP, CROP_SIDE = 82, -32, 290
"""The square of the photograph that is filmed, px; above the photograph the backdrop goes on."""
HEAD_WIDTH = 147.0
"""Hair included, px."""

_EAR_LOBES, _NECK_BASE = 138, 181
"""The rows where hair and ears end, and where the neck goes into the suit."""
_NECK_LEFT, _NECK_RIGHT = 188, 253
_ENLARGED = (110, 0, 240, 3)
"""Left, top and side of the square in which landmarks are looked for, and how much it is enlarged."""


@dataclass(frozen=True)
class Portrait:
    """A head on its backdrop, ready to be animated.

    Attributes:
        mesh: the head's surface and how mouth and lids deform it.
        atlas: RGBA in [0, 1]: on the left the photograph with the head's coverage, on the right what lies behind
            lips and lids.
        still: the filmed square with the head taken out, RGB in [0, 1].
        face_height: forehead to chin, px.
        rest_opening: the photograph's gap between the lips over the face's height.
    """

    mesh: HeadMesh
    atlas: Float[np.ndarray, "512 1024 4"]
    still: Float[np.ndarray, "side side 3"]
    face_height: float
    rest_opening: float


@functools.cache
def load_portrait() -> Portrait:
    """Finds the landmarks in the photograph and builds everything that an animation needs."""
    from skimage.data import astronaut

    photo = np.ascontiguousarray(astronaut())
    with quiet_native_logs():
        landmarks, person = _landmarks(photo), _person(photo)
    head = _head_coverage(photo, landmarks, person)
    mesh = build_head_mesh(landmarks, head, photo.shape[1])
    behind = np.dstack([_behind_openings(photo, landmarks), np.ones_like(head)])
    atlas = np.hstack([np.dstack([photo / 255.0, head]), behind]).astype(np.float32)
    face_height = float(np.linalg.norm(landmarks[FOREHEAD_TOP, :2] - landmarks[CHIN, :2]))
    gap = float(np.linalg.norm(landmarks[MOUTH.upper[5], :2] - landmarks[MOUTH.lower[5], :2]))
    return Portrait(mesh, atlas, _take_head_out(photo, head), face_height, gap / face_height)


def _landmarks(photo: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 3"]:
    """Face-mesh landmarks, found in an enlargement because the mesh network looks at 192 px of face."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    left, top, side, scale = _ENLARGED
    square = photo[top : top + side, left : left + side]
    enlarged = cv2.resize(square, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    with FaceMesh(static_image_mode=True, refine_landmarks=True) as face_mesh:
        result: Any = face_mesh.process(enlarged)
    found = result.multi_face_landmarks[0].landmark
    points = np.array([(p.x, p.y, p.z) for p in found]) * side + [left, top, 0.0]
    cheeks = points[list(CHEEKS), 2].mean()
    return points - [0.0, 0.0, cheeks]


def _person(photo: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """How sure a small segmentation network is that a pixel shows the person, in [0, 1]."""
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    with SelfieSegmentation(model_selection=0) as segmenter:
        result: Any = segmenter.process(photo)
    return result.segmentation_mask


def _head_coverage(
    photo: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 3"], person: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Coverage of hair, ears and face: the person above the ear lobes, and the face's oval below them."""
    labels = np.where(person > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(person, np.ones((7, 7))) > 0.9] = cv2.GC_FGD
    labels[cv2.dilate(person, np.ones((9, 9))) < 0.1] = cv2.GC_BGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photo, labels, None, background, foreground, 3, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    head = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    head[_EAR_LOBES:] = 0
    oval = np.round(landmarks[FACE_OVAL, :2]).astype(np.int32)
    cv2.fillPoly(head, [oval], 1)  # type: ignore[call-overload]
    return cv2.GaussianBlur(head.astype(np.float32), (0, 0), 0.8)


def _behind_openings(
    photo: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 3"]
) -> Float[np.ndarray, "h w 3"]:
    """What is seen through the openings of the skin: the photograph's teeth over a dark mouth, and its eyeballs."""
    dark = np.array([58.0, 18.0, 18.0])
    mouth = _polygon(photo.shape[:2], landmarks, MOUTH.contour())
    teeth = cv2.GaussianBlur(cv2.erode(mouth, np.ones((2, 2))).astype(np.float32), (0, 0), 0.7)[..., None]
    behind = dark * (1.0 - teeth) + photo * teeth
    eyes = sum(_polygon(photo.shape[:2], landmarks, eye.contour()) for eye in EYES)
    near_eyes = cv2.dilate(np.asarray(eyes, np.uint8), np.ones((9, 9)))[..., None] > 0
    return np.where(near_eyes, photo, behind) / 255.0


def _polygon(
    shape: tuple[int, ...], landmarks: Float[np.ndarray, "478 3"], contour: list[int]
) -> UInt8[np.ndarray, "h w"]:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(landmarks[contour, :2]).astype(np.int32)], 1)  # type: ignore[call-overload]
    return mask


def _take_head_out(
    photo: UInt8[np.ndarray, "h w 3"], head: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "side side 3"]:
    """The filmed square without the head: backdrop behind the hair, a longer neck behind the chin."""
    hole = cv2.dilate((head > 0.02).astype(np.uint8), np.ones((9, 9)))
    hole[_NECK_BASE:] = 0
    plate = cv2.inpaint(photo, hole, 5, cv2.INPAINT_TELEA)
    plate = np.where(hole[..., None] > 0, cv2.GaussianBlur(plate, (0, 0), 4), plate)
    longer = _longer_neck(photo, plate)
    padded = cv2.copyMakeBorder(longer, -CROP_TOP, 0, 0, 0, cv2.BORDER_REFLECT_101)
    square = padded[:CROP_SIDE, CROP_LEFT : CROP_LEFT + CROP_SIDE]
    return square.astype(np.float32) / 255.0


def _longer_neck(photo: UInt8[np.ndarray, "h w 3"], plate: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the neck's lowest rows, stretched upwards and darkened by the chin's shade, over the plate."""
    rows, columns = np.mgrid[0 : photo.shape[0], 0 : photo.shape[1]].astype(np.float32)
    source = np.where(rows < _NECK_BASE, _NECK_BASE + (rows - _NECK_BASE) * 0.05, rows).astype(np.float32)
    stretched = cv2.GaussianBlur(cv2.remap(photo, columns, source, cv2.INTER_LINEAR), (0, 0), 1.5)
    shade = np.clip(1.0 - (_NECK_BASE - rows) / 120.0, 0.7, 1.0)[..., None]
    inside = (columns > _NECK_LEFT) & (columns < _NECK_RIGHT) & (rows > 105) & (rows < _NECK_BASE)
    alpha = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)[..., None]
    return (plate * (1.0 - alpha) + stretched * shade * alpha).astype(np.uint8)
