"""Every table of landmark indices: mediapipe's face mesh (478 points), and iBUG's 68 points where `IBUG` says so.

Left and right are the person's. Tables used as NumPy indices are arrays, parts of a face are tuples.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ntalker_ns.errors import NTalkerError


class Opening(NamedTuple):
    """A hole in the skin that opens and closes; its edges run from corner to corner."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]

    def contour(self) -> list[int]:
        """The landmarks around the hole, in order."""
        return [*self.upper, *self.lower[-2:0:-1]]


@dataclass(frozen=True)
class LandmarkSet:
    """The parts of a face in one numbering of landmarks."""

    keypoints: dict[str, tuple[int, ...]]
    """The landmarks whose mean is the keypoint."""
    lips: tuple[int, ...]
    """Lips and jaw: what speech moves."""
    brows: tuple[int, ...]
    """Brows and the still parts of the face around them."""
    eyes: tuple[Opening, Opening]
    """The right and the left eye; lids run from the person's right to left."""
    under_brows: tuple[tuple[int, ...], tuple[int, ...]]
    """Lower edges of the right and the left brow, from the person's right to left."""
    outline: tuple[int, ...]
    """The face's outline, in order."""


FOREHEAD_TOP, CHIN, UNDER_NOSE = 10, 152, 2
NOSE_TIP, NOSE_RIDGE = 1, 4
UPPER_INNER_LIP, LOWER_INNER_LIP = 13, 14
MOUTH_CORNERS = (61, 291)
CHEEKS = (50, 280)
RIGHT_EAR, LEFT_EAR = 234, 454
"""In front of the ears; the right one is on the left of an unmirrored picture."""
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)
SURFACE_POINTS = 468
"""Points on the skin; the irises' ten follow."""
NUM_POINTS = 478

FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
     152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip
"""Outline of the face, from the middle of the forehead clockwise in the picture."""
OUTER_LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185])
"""Outer edge of the lips from the right corner along the lower lip."""
MOUTH = Opening((78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308), (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308))
"""The inner edges of the lips."""
INNER_LIPS = np.array([*MOUTH.lower, *MOUTH.upper[-2:0:-1]])
"""The same as a contour from the right corner along the lower lip."""
RIGHT_EYE = Opening((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133))
LEFT_EYE = Opening((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263))
EYES = (RIGHT_EYE, LEFT_EYE)
RIGHT_EYELIDS = ((159, 145), (158, 153), (160, 144))
"""Pairs of upper and lower lid points in the middle of the eye."""
LEFT_EYELIDS = ((386, 374), (385, 380), (387, 373))
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
"""Contour: upper edge towards the nose, lower edge back; the left one's lower edge continues away from the nose."""
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
MOVING_OUTLINES = tuple(np.array(part) for part in (*(eye.contour() for eye in EYES), RIGHT_BROW, LEFT_BROW))
"""Eyes and brows: parts of the upper face that move by themselves."""

MIRRORED_PAIRS = ((234, 454), (127, 356), (33, 263), (133, 362), (116, 345), (67, 297), (54, 284), (61, 291))
"""Right and left point of pairs that lie symmetrically: the face's sideways axis is along them."""
_FOREHEAD = (10, 109, 67, 103, 338, 297, 332, 151, 108, 69, 337, 299)
_NOSE = (168, 6, 197, 195, 5, 4, 122, 351, 196, 419, 45, 275)
_INNER_EYE_CORNERS = (133, 362)
_TEMPLES = (54, 284, 21, 251, 162, 389, 127, 356, 34, 264)
_CHEEKBONES = (116, 345, 111, 340, 234, 454, 227, 447)
RIGID = np.array([*_FOREHEAD, *_NOSE, *_INNER_EYE_CORNERS, *_TEMPLES, *_CHEEKBONES])
"""Points of the skull, which speech, blinks and brows hardly move. Left out after measuring how they depart from the
rigid shape: outer eye corners (lids), the root of the nose between the brows, cheeks below the eyes (smiles)."""

MESH = LandmarkSet(
    keypoints={
        "mouth": (*MOUTH_CORNERS, 0, 17),
        "chin": (CHIN,),
        "left_eye": LEFT_EYE_CORNERS,
        "right_eye": RIGHT_EYE_CORNERS,
        "nose": (NOSE_RIDGE,),
    },
    lips=tuple(int(i) for part in (np.roll(OUTER_LIPS[::-1], 1), MOUTH.contour(), FACE_OVAL[24:11:-1]) for i in part),
    brows=(
        *(*RIGHT_BROW, *LEFT_BROW),
        *(10, 109, 67, 103, 338, 297, 332, 151, 108, 337, 69, 299),
        *(33, 133, 362, 263, 168, 6, 122, 351, 127, 356, 34, 264, 21, 251, 116, 345),
    ),
    eyes=EYES,
    under_brows=(RIGHT_BROW[:4:-1], LEFT_BROW[5:]),
    outline=tuple(FACE_OVAL.tolist()),
)
"""mediapipe's face mesh."""

IBUG_OUTER_LIPS, IBUG_INNER_LIPS = slice(48, 60), slice(60, 68)
IBUG_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
"""Upper and lower points of the inner lips' middle."""
IBUG_LID_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46))
IBUG_NOSE_ROOT, IBUG_CHIN = 27, 8
IBUG = LandmarkSet(
    keypoints={
        "mouth": (48, 54, 51, 57),
        "chin": (IBUG_CHIN,),
        "left_eye": (42, 45),
        "right_eye": (36, 39),
        "nose": (30,),
    },
    lips=(*range(48, 68), *range(4, 13)),
    brows=(*range(17, 31), 36, 39, 42, 45, 0, 1, 15, 16),
    eyes=(Opening((36, 37, 38, 39), (36, 41, 40, 39)), Opening((42, 43, 44, 45), (42, 47, 46, 45))),
    under_brows=(tuple(range(17, 22)), tuple(range(22, 27))),
    outline=(*range(17), *range(26, 16, -1)),
)
"""The 68 points that AD-NeRF and its followers store."""

MESH_OF_IBUG = dict(
    zip(
        IBUG.lips,
        (
            *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
            *(172, 136, 149, 148, 152, 377, 378, 365, 397),
        ),
        strict=True,
    )
)
"""The landmark of the mesh that is nearest to each of iBUG's of lips and jaw."""


def landmark_set(num_points: int) -> LandmarkSet:
    """The numbering of so many landmarks.

    Raises:
        NTalkerError: it is neither the face mesh (468 points, or 478 with irises) nor iBUG's 68.
    """
    if num_points >= SURFACE_POINTS:
        return MESH
    if num_points == 68:
        return IBUG
    raise NTalkerError(f"Landmarks must be mediapipe's 478 points or iBUG's 68, not {num_points}.")


def lip_contours(count: int) -> tuple[slice, slice]:
    """Where the outer and the inner edge of the lips are among the landmarks of lips and jaw, as closed contours.

    Args:
        count: how many landmarks of lips and jaw there are.
    """
    outer, inner = (len(OUTER_LIPS), len(INNER_LIPS)) if count == len(MESH.lips) else (12, 8)
    return slice(0, outer), slice(outer, outer + inner)


# How the demo's animation moves the mesh.

LOWER_LIP_ROWS = (
    (95, 88, 178, 87, 14, 317, 402, 318, 324),
    (96, 89, 179, 86, 15, 316, 403, 319, 325),
    (77, 90, 180, 85, 16, 315, 404, 320, 307),
    (146, 91, 181, 84, 17, 314, 405, 321, 375),
)
"""Rows of the lower lip from its inner edge to the skin below; all points of a column move together."""
JAW_MOVEMENT = {152: 0.9, 148: 0.88, 377: 0.88, 176: 0.82, 400: 0.82, 149: 0.72, 378: 0.72, 150: 0.55, 379: 0.55,
                136: 0.36, 365: 0.36, 172: 0.18, 397: 0.18, 58: 0.06, 288: 0.06, 200: 0.97, 199: 0.95, 175: 0.92,
                18: 1.0}  # fmt: skip
"""Movement of points of the jaw, over that of the middle of the lower lip."""
FIXED_BY_JAW = (132, 361, 93, 323, 234, 454, 127, 356, 10, 1, 2, 4, 5, 6, 98, 327, 164, 0, 267, 37, 269, 39, 270, 40,
                409, 185, 11, 12, 302, 72, 303, 73, 304, 74, 268, 38, 271, 41, 272, 42, 408, 184, 50, 280, 117, 346, 36,
                266, 168, 9, 70, 300, *MOUTH.upper, *(i for eye in EYES for edge in eye for i in edge))  # fmt: skip
"""Points that do not move with the jaw."""
FIXED_BY_LIDS = (*RIGHT_BROW, *LEFT_BROW, 50, 280, 117, 346, 118, 347, 6, 168, 9, 143, 372, 156, 383)
"""Points around the eyes that do not move with the lids: brows, cheeks, root of the nose, temples."""
