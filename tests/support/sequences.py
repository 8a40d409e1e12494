"""A driving sequence of random numbers."""

import numpy as np

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.driving.sequence import ClipCamera, DrivingSequence, Track, frame_times
from ntalker_ns.face.rig import Rig

INFO = FeatureInfo("mel", None, channels=3)


def make_sequence(num_frames: int = 6, is_train: list[bool] | None = None) -> DrivingSequence:
    rng = np.random.default_rng(0)
    train = np.ones(num_frames, bool) if is_train is None else np.array(is_train)
    rig = Rig(
        keypoints={"mouth": np.array([0.1, -0.5, 0.25], np.float32)},
        lip_points=np.zeros((53, 2), np.float32),
        lip_basis=np.zeros((6, 53, 2), np.float32),
        brow_points=np.zeros((48, 2), np.float32),
        brow_basis=np.zeros((3, 48, 2), np.float32),
        lids=np.zeros((2, 9, 4), np.float32),
    )
    track = Track(
        camera_to_worlds=rng.normal(size=(num_frames, 3, 4)).astype(np.float32),
        times=frame_times(num_frames),
        eye_openness=rng.random(num_frames).astype(np.float32),
        mouth_opening=np.where(np.arange(num_frames) == 1, np.nan, 0.1).astype(np.float32),
        lip_shapes=np.zeros((num_frames, 6), np.float32),
        brow_shapes=rng.normal(size=(num_frames, 3)).astype(np.float32),
        face_boxes=rng.random((num_frames, 4)).astype(np.float32),
        lip_boxes=rng.random((num_frames, 4)).astype(np.float32),
        is_train=train,
        features=rng.normal(size=(num_frames, 16, 3)).astype(np.float32),
        replay=np.arange(num_frames),
    )
    camera = ClipCamera(100.0, 101.0, 32.5, 31.5, width=64, height=48)
    return DrivingSequence(rig, track, camera, train, INFO, source="/data/anna")
