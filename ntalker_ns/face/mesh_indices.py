"""Which of mediapipe's 478 face-mesh points are what."""

import numpy as np

FOREHEAD_TOP = 10
CHIN = 152
UPPER_INNER_LIP = 13
LOWER_INNER_LIP = 14

FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
     152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip
"""Outline of the face, from the middle of the forehead clockwise as seen in the picture."""
JAW = FACE_OVAL[8:29]
"""The lower part of the outline, from the ear on the picture's right over the chin to the other ear."""
OUTER_LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185])
INNER_LIPS = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191])

RIGHT_EYE_CORNERS = (33, 133)
RIGHT_EYELIDS = ((159, 145), (158, 153), (160, 144))
"""Pairs of upper and lower lid points of the person's right eye."""
LEFT_EYE_CORNERS = (362, 263)
LEFT_EYELIDS = ((386, 374), (385, 380), (387, 373))

RIGHT_EAR = 234
"""In front of the person's right ear: the left end of the face in an unmirrored picture."""
LEFT_EAR = 454

UNDER_NOSE = 2
SURFACE_POINTS = 468
"""Points on the face's surface; the rest are the irises'."""
MOVING_OUTLINES = (
    np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7]),
    np.array([362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382]),
    np.array([70, 63, 105, 66, 107, 55, 65, 52, 53, 46]),
    np.array([300, 293, 334, 296, 336, 285, 295, 282, 283, 276]),
)
"""Eyes and brows: parts of the upper face that move by themselves."""

_FOREHEAD = [10, 109, 67, 103, 338, 297, 332, 151, 108, 69, 337, 299]
_NOSE = [168, 6, 197, 195, 5, 4, 122, 351, 196, 419, 45, 275]
_INNER_EYE_CORNERS = [133, 362]
_TEMPLES = [54, 284, 21, 251, 162, 389, 127, 356, 34, 264]
_CHEEKBONES = [116, 345, 111, 340, 234, 454, 227, 447]
RIGID = np.array([*_FOREHEAD, *_NOSE, *_INNER_EYE_CORNERS, *_TEMPLES, *_CHEEKBONES])
"""Points that speech, blinks and brows hardly move: the skull's. Left out after measuring how they depart from the
rigid shape: outer eye corners (lids), the root of the nose between the brows, cheeks below the eyes (smiles)."""
