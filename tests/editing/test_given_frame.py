"""The frame that a user edits: the choice of it, and what its file remembers."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.sequences import make_sequence

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.given_frame import (
    FrameDescription,
    frame_of_picture,
    frame_to_edit,
    read_description,
    write_frame,
)
from ntalker_ns.errors import NTalkerError


def faced(turns: list[float], openings: list[float], eyes: list[float]) -> DrivingSequence:
    """A head seen from so many degrees to the side."""
    sequence = make_sequence(len(turns))
    poses = np.zeros((len(turns), 3, 4), np.float32)
    for pose, turn in zip(poses, np.radians(turns), strict=True):
        # OpenGL axes of a camera in front of a face that looks towards -y.
        pose[:, :3] = [[np.cos(turn), 0, np.sin(turn)], [np.sin(turn), 0, -np.cos(turn)], [0, 1, 0]]
    track = replace(
        sequence.track,
        camera_to_worlds=poses,
        mouth_opening=np.array(openings, np.float32),
        eye_openness=np.array(eyes, np.float32),
    )
    return replace(sequence, track=track)


def test_it_is_frontal_with_open_eyes_and_a_slightly_open_mouth():
    turns = [20.0, 0.0, 1.0, 0.0, -20.0]
    assert frame_to_edit(faced(turns, [0.1, 0.0, 0.1, 0.3, 0.1], [1.0] * 5)) == 2
    assert frame_to_edit(faced(turns, [0.1, 0.1, 0.1, 0.3, 0.1], [1.0, 0.1, 1.0, 1.0, 1.0])) == 2
    assert frame_to_edit(faced(turns, [0.1, np.nan, 0.1, 0.3, 0.1], [1.0] * 5)) == 2


def test_a_file_remembers_its_frame(tmp_path: Path):
    sequence = make_sequence()
    described = FrameDescription.of(sequence, 3, 128)
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    path = tmp_path / "frame.png"
    write_frame(path, picture, described)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert read_description(path) == described
    assert described.intrinsics["fl_x"] == pytest.approx(2 * sequence.camera.fl_x)
    assert frame_of_picture(path, None, sequence) == 3
    assert frame_of_picture(path, 4, sequence) == 4


def test_files_without_it_are_the_default_frame(tmp_path: Path):
    sequence = make_sequence()
    path = tmp_path / "edited.jpg"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    assert read_description(path) is None
    assert frame_of_picture(path, None, sequence) == frame_to_edit(sequence)


def test_a_frame_of_another_head_is_refused(tmp_path: Path):
    sequence = make_sequence()
    described = replace(FrameDescription.of(sequence, 3, None), camera_to_world=np.eye(4)[:3].tolist())
    write_frame(tmp_path / "frame.png", np.zeros((8, 8, 3), np.uint8), described)
    with pytest.raises(NTalkerError, match="another head"):
        frame_of_picture(tmp_path / "frame.png", None, sequence)
    with pytest.raises(NTalkerError, match="no frame 6 among the 6"):
        frame_of_picture(tmp_path / "frame.png", 6, sequence)


def test_other_formats_are_refused(tmp_path: Path):
    described = FrameDescription.of(make_sequence(), 0, None)
    with pytest.raises(NTalkerError, match=r"does not end in \.png"):
        write_frame(tmp_path / "frame.jpg", np.zeros((8, 8, 3), np.uint8), described)
