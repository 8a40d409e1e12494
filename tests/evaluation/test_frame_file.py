"""Pictures on disk come back as they were."""

import numpy as np
import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.frame_file import FrameFile

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8)


@pytest.fixture
def frames() -> FrameFile:
    file = FrameFile(7, 9)
    for picture in PICTURES:
        file.append(picture)
    return file


def test_pictures_come_back_in_any_order(frames: FrameFile):
    assert len(frames) == 5
    for index in (3, 0, -1, 4):
        np.testing.assert_array_equal(frames[index], PICTURES[index])
    np.testing.assert_array_equal(list(frames), PICTURES)
    np.testing.assert_array_equal(frames[1:4], PICTURES[1:4])


def test_reading_does_not_disturb_writing(frames: FrameFile):
    assert np.array_equal(frames[0], PICTURES[0])
    frames.append(PICTURES[2])
    np.testing.assert_array_equal(frames[5], PICTURES[2])
    np.testing.assert_array_equal(frames[4], PICTURES[4])


def test_two_readers_take_turns(frames: FrameFile):
    for first, second, picture in zip(frames, frames, PICTURES, strict=True):
        np.testing.assert_array_equal(first, picture)
        np.testing.assert_array_equal(second, picture)


def test_there_is_an_end(frames: FrameFile):
    with pytest.raises(IndexError):
        frames[5]


def test_another_size_is_refused(frames: FrameFile):
    with pytest.raises(NTalkerError, match="Picture 5 has shape"):
        frames.append(np.zeros((9, 7, 3), np.uint8))
