"""A driving sequence of random numbers."""

import numpy as np

from ntalker_ns.driving.sequence import (
    DrivingSequence,
    frame_times,
)

INFO = {"extractor": "mel", "model": None, "channels": 3, "window": 16, "fps": 25.0}


def make_sequence(num_frames: int = 6, is_train: list[bool] | None = None) -> DrivingSequence:
    rng = np.random.default_rng(0)
    train = np.ones(num_frames, bool) if is_train is None else np.array(is_train)
    values = rng.normal(size=(num_frames, 3, 4)).astype(np.float32)
    return DrivingSequence(
        camera_to_worlds=values,
        times=frame_times(num_frames),
        eye_openness=rng.random(num_frames).astype(np.float32),
        lip_shapes=np.zeros((num_frames, 6), np.float32),
        lip_places=np.zeros((53, 2), np.float32),
        lip_motions=np.zeros((6, 53, 2), np.float32),
        brow_shapes=rng.normal(size=(num_frames, 3)).astype(np.float32),
        brow_places=np.zeros((48, 2), np.float32),
        brow_motions=np.zeros((3, 48, 2), np.float32),
        lids=np.zeros((2, 9, 4), np.float32),
        mouth_opening=np.where(np.arange(num_frames) == 1, np.nan, 0.1).astype(np.float32),
        face_boxes=rng.random((num_frames, 4)).astype(np.float32),
        lip_boxes=rng.random((num_frames, 4)).astype(np.float32),
        is_train=train,
        features=rng.normal(size=(num_frames, 16, 3)).astype(np.float32),
        replay=np.arange(num_frames),
        clip_is_train=train,
        feature_info=INFO,
        anchors={"mouth": np.array([0.1, -0.5, 0.25], np.float32)},
        fl_x=100.0,
        fl_y=101.0,
        cx=32.5,
        cy=31.5,
        width=64,
        height=48,
        source="/data/anna",
    )
