"""One crop for the whole clip."""

import itertools

import cv2
import numpy as np
import pytest
from conftest import DemoClip
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.capture.crop import (
    Crop,
    Person,
    Survey,
    choose_crop,
    expected_centres,
    follow_largest,
    is_crowded,
    survey_faces,
)
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.video_reader import read_frames


def survey(boxes: list[list[list[float]]]) -> Survey:
    """A survey of faces given per sample, largest first."""
    arrays = [np.array(b, float).reshape(-1, 4) for b in boxes]
    return Survey(1000, 600, 1, 8 * len(boxes), [8 * i for i in range(len(boxes))], arrays)


def box(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y + side]


@given(
    x=st.floats(0, 1700), y=st.floats(0, 900), face=st.floats(20, 900), width=st.integers(300, 1920),
    height=st.integers(300, 1080),
)  # fmt: skip
def test_the_crop_lies_inside_the_picture(x: float, y: float, face: float, width: int, height: int):
    crop = choose_crop(np.array([[x, y, x + face, y + face]]), width, height, 256)
    assert 0 <= crop.x0 <= width - crop.side
    assert 0 <= crop.y0 <= height - crop.side
    assert 0 < crop.side <= min(width, height)


def test_the_crop_holds_the_face_wherever_it_moves():
    track = np.array([box(200 + 20 * i, 200, 100) for i in range(10)], float)
    crop = choose_crop(track, 1000, 600, 256)
    assert crop.x0 < 200 and crop.x0 + crop.side > 480
    assert crop.y0 < 150 and crop.y0 + crop.side > 350


def test_cropping_resizes_and_keeps_colours():
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:40, 20:50] = (10, 200, 30)
    assert np.array_equal(Crop(20, 10, 30, 30)(image), image[10:40, 20:50])
    assert (Crop(20, 10, 30, 90)(image) == (10, 200, 30)).all()


def test_the_larger_of_two_faces_is_followed_and_counted():
    small, moved = box(700, 100, 80), [box(100 + 5 * i, 100, 120) for i in range(5)]
    # In one sample the detector sees the other face only.
    boxes = [[m, small] for m in moved[:3]] + [[small], [moved[4], small]]
    track, together = follow_largest(survey(boxes))
    assert together == 2
    assert np.isnan(track[3]).all()
    assert np.allclose(track[[0, 4]], [moved[0], moved[4]])


def test_a_larger_face_that_passes_by_is_not_the_person():
    speaker = [box(100 + 5 * i, 100, 120) for i in range(9)]
    # The passer-by, once, and then for three samples.
    for samples in ([4], [4, 5, 6]):
        boxes = [[box(600, 100, 200), own] if i in samples else [own] for i, own in enumerate(speaker)]
        assert np.allclose(follow_largest(survey(boxes))[0], speaker)


def test_a_face_far_smaller_is_no_second_speaker():
    assert follow_largest(survey([[box(100, 100, 120), box(700, 100, 30)]] * 3))[1] == 1


def test_no_face_at_all_is_refused():
    with pytest.raises(NTalkerError, match="No face was found"):
        follow_largest(survey([[], []]))


def test_the_expected_place_is_interpolated_and_cropped():
    found = survey([[box(100, 100, 100)], [], [box(180, 100, 100)]])
    track, _ = follow_largest(found)
    centres = expected_centres(found, track, Crop(50, 50, 200, 400))
    assert centres.shape == (24, 2)
    assert np.allclose(centres[8], [(190 - 50) * 2, (150 - 50) * 2])


@pytest.mark.parametrize(
    ("other", "crowded"), [(box(240, 240, 10), True), (box(395, 60, 30), True), (box(700, 100, 120), False)]
)
def test_any_other_face_in_the_crop_crowds_it(other: list[float], crowded: bool):
    own = box(100, 100, 120)
    found = survey([[own]] * 3 + [sorted([own, other], key=lambda b: b[0] - b[2])] + [[own]] * 3)
    assert is_crowded(found, np.array([own] * 7, float), Crop(0, 50, 400, 256)) == crowded
    # Where the person is not seen, a face is somebody else's.
    unseen = np.array([own] * 3 + [[np.nan] * 4] + [own] * 3)
    assert is_crowded(survey([[own]] * 7), unseen, Crop(0, 50, 400, 256))
    assert not is_crowded(survey([[own]] * 7), np.array([own] * 7, float), Crop(0, 50, 400, 256))


def test_a_face_far_away_is_found_in_its_place(demo_clip: DemoClip):
    first = next(read_frames(demo_clip.path))
    near = Person.of(survey_faces([first]), 128)
    scale = 75.0 / near.face
    small = cv2.resize(first, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    room = np.full((1080, 1920, 3), 128, np.uint8)
    room[850 : 850 + small.shape[0], 1700 : 1700 + small.shape[1]] = small
    far = Person.of(survey_faces([room], parts=3), 128)
    assert far.face == pytest.approx(75.0, rel=0.15)
    centre = far.centres[0] / far.crop.scale + [far.crop.x0, far.crop.y0] - [1700, 850]
    expected = scale * (near.centres[0] / near.crop.scale + [near.crop.x0, near.crop.y0])
    np.testing.assert_allclose(centre, expected, atol=8)


def test_a_call_that_changes_its_size_is_surveyed_in_the_largest(demo_clip: DemoClip):
    frames = list(itertools.islice(read_frames(demo_clip.path), 9))
    alone = survey_faces(frames)
    half = cv2.resize(frames[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    both = survey_faces([half, *frames[1:]])
    assert (both.sizes, both.width, both.height) == (2, alone.width, alone.height)
    np.testing.assert_allclose(both.boxes[0], alone.boxes[0], atol=0.05 * alone.width)
    np.testing.assert_array_equal(both.boxes[1], alone.boxes[1])
