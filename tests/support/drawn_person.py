"""A drawn person of known labels."""

import cv2
import numpy as np

from ntalker_ns.face import mesh_indices

SIZE = 256
SKIN, HAIR, CLOTH, ROOM = (205, 160, 140), (150, 110, 60), (30, 30, 60), (60, 130, 180)


def landmarks(shift: float = 0.0) -> np.ndarray:
    """An oval face of 90 px height and a mouth."""
    points = np.full((478, 2), 128.0)
    angle = np.linspace(0, 2 * np.pi, len(mesh_indices.FACE_OVAL), endpoint=False)
    points[mesh_indices.FACE_OVAL] = np.stack([128 + 36 * np.sin(angle), 110 - 45 * np.cos(angle)], axis=1)
    around = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[mesh_indices.OUTER_LIPS] = np.stack([128 + 14 * np.cos(around), 138 + 6 * np.sin(around)], axis=1)
    points[mesh_indices.INNER_LIPS] = np.stack([128 + 9 * np.cos(around), 138 + 2 * np.sin(around)], axis=1)
    points[mesh_indices.UPPER_INNER_LIP], points[mesh_indices.LOWER_INNER_LIP] = (128, 136), (128, 140)
    return points + np.array([shift, 0])


def portrait(hair_to: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A drawn person whose hair falls to row `hair_to`: image, matte, landmarks, true head."""
    rng = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), ROOM, np.uint8)
    person, head = np.zeros((2, SIZE, SIZE), np.uint8)
    points = landmarks(shift)
    centre = (int(128 + shift), 105)
    cv2.ellipse(image, (int(128 + shift), 275), (110, 90), 0, 0, 360, CLOTH, -1)
    cv2.ellipse(person, (int(128 + shift), 275), (110, 90), 0, 0, 360, (1,), -1)
    cv2.rectangle(image, (centre[0] - 20, 140), (centre[0] + 20, 200), SKIN, -1)
    cv2.rectangle(person, (centre[0] - 20, 140), (centre[0] + 20, 200), 1, -1)
    for canvas, colour in ((image, HAIR), (person, (1,)), (head, (1,))):
        cv2.ellipse(canvas, centre, (52, 60), 0, 180, 360, colour, -1)
        for side in (-1, 1):
            a, b = sorted((centre[0] + side * 30, centre[0] + side * 52))
            cv2.rectangle(canvas, (a, 105), (b, hair_to), colour, -1)
    oval = np.rint(points[mesh_indices.FACE_OVAL]).astype(np.int32)
    for canvas, colour in ((image, SKIN), (person, (1,)), (head, (1,))):
        cv2.fillPoly(canvas, [oval], colour)
    noisy = image.astype(float) + rng.normal(0, 6, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), person.astype(bool), points, head.astype(bool)
