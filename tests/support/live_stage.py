"""The stage of a head whose poses and eyes are known."""

import numpy as np
from scipy.spatial.transform import Rotation

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.live.stage import Stage
from support.sequences import make_sequence


def turning_clip(frames: int = 40) -> DrivingSequence:
    """A clip in which the head turns slowly to and fro, and whose last four frames are not trained on."""
    clip = make_sequence(frames, [True] * (frames - 4) + [False] * 4)
    turned = Rotation.from_euler("zx", 0.1 * np.sin(np.arange(frames)[:, None] * [0.3, 0.2])).as_matrix()
    place = np.tile([[0.1], [3.0], [0.0]], (frames, 1, 1)) + 0.01 * np.cos(np.arange(frames))[:, None, None]
    return clip.with_track(camera_to_worlds=np.concatenate([turned, place], axis=2).astype(np.float32))


def make_stage() -> Stage:
    return Stage(turning_clip())
