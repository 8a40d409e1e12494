"""Where speech, blinks and brows may act.

A radiance field conditioned on audio everywhere learns to tell training frames apart by it: every frame has its own
sound, so the code becomes a frame index and the whole head depends on it. Here the audio coordinate is multiplied by a
gate that is exactly zero away from mouth and jaw, and eye closure by one that is zero away from the eyes. Brows only
warp space, around themselves. Everything else is independent of speech by construction, not by a loss weight.
"""

import numpy as np

from ntalker_ns.kernels.types import Gate


def speech_gate(keypoints: dict[str, np.ndarray]) -> Gate:
    """Mouth, chin and the cheeks beside them: what the jaw and the lips move.

    Args:
        keypoints: (3,) world points `mouth`, `chin`, `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"]))
    center = keypoints["mouth"] + 0.35 * (keypoints["chin"] - keypoints["mouth"])
    return Gate((_point(center),), inner=0.8 * between_eyes, outer=1.3 * between_eyes)


def eye_gate(keypoints: dict[str, np.ndarray]) -> Gate:
    """Eyelids.

    Args:
        keypoints: (3,) world points `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"]))
    centers = (_point(keypoints["left_eye"]), _point(keypoints["right_eye"]))
    return Gate(centers, inner=0.3 * between_eyes, outer=0.5 * between_eyes)


def brow_gate(keypoints: dict[str, np.ndarray]) -> Gate:
    """Brows and the forehead over them.

    Args:
        keypoints: (3,) world points `left_eye`, `right_eye`.
    """
    between_eyes = float(np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"]))
    above = np.array([0.0, 0.0, 0.3 * between_eyes])
    centers = (_point(keypoints["left_eye"] + above), _point(keypoints["right_eye"] + above))
    return Gate(centers, inner=0.45 * between_eyes, outer=0.7 * between_eyes)


def _point(keypoint: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in keypoint)
    return x, y, z
