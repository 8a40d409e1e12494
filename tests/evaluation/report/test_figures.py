"""The report's pictures show the frames that they say, and differences in the right colours."""

import numpy as np
import pytest

from ntalker_ns.evaluation.evaluate import Evaluation, Row
from ntalker_ns.evaluation.footage import Reference, Take
from ntalker_ns.evaluation.frame_file import FrameFile
from ntalker_ns.evaluation.report.figures import (
    FULL_SCALE,
    NOT_SEEN,
    decider_of,
    flicker_maps,
    heat,
    strip,
    worst_frames,
)
from ntalker_ns.evaluation.scores import Scores

SIZE, COUNT, FIRST = 64, 5, 100
SHADES = [20 * (i + 1) for i in range(COUNT)]
GAP, TEXT = 4, 22
"""Of `pictures.grid`, px."""


def frame_file(shades: list[int]) -> FrameFile:
    frames = FrameFile(SIZE, SIZE)
    for shade in shades:
        frames.append(np.full((SIZE, SIZE, 3), shade, np.uint8))
    return frames


def evaluation(**series: list[float]) -> Evaluation:
    """Grey true frames, and a take that is ten values brighter."""
    no_faces = np.full((COUNT, 478, 3), np.nan)
    truth = frame_file(SHADES)
    reference = Reference("true", np.arange(FIRST, FIRST + COUNT), 200, truth, no_faces, lambda place: {}, None)
    scores = Scores(series={name: np.array(values, float) for name, values in series.items()})
    take = Take("ours", frame_file([shade + 10 for shade in SHADES]), no_faces)
    return Evaluation(
        reference, "true", [Row(Take("true", truth, no_faces), Scores()), Row(take, scores)], {}, 0.0, 0.0
    )


def cell(picture: np.ndarray, row: int, column: int, height: int) -> np.ndarray:
    """The colour in the lower right of a square picture of a grid, where no words are."""
    return picture[TEXT + row * (height + GAP) + height - 6, column * (height + GAP) + height - 6]


def test_differences_go_from_black_to_the_brightest_colour():
    colours = heat(np.array([[0.0, FULL_SCALE, 1.0]])).astype(int)
    assert colours[0, 0].max() < 10
    assert colours[0, 1].min() > 100
    np.testing.assert_array_equal(colours[0, 1], colours[0, 2])


def test_the_strip_is_spread_from_the_first_frame_to_the_last():
    picture = strip(evaluation(), columns=3, height=SIZE)
    for row, brighter in enumerate((0, 10)):
        assert [cell(picture, row, column, SIZE)[0] for column in range(3)] == [
            SHADES[place] + brighter for place in (0, 2, 4)
        ]


@pytest.mark.parametrize(
    ("series", "decider", "worst"),
    [
        ({"psnr_head": [30, 20, 28, 25, 29]}, "psnr_head", [1, 3]),
        ({"psnr_head": [np.nan] * 5, "lip_distance": [1, np.nan, 5, 2, 1]}, "lip_distance", [2, 3]),
        ({"ssim": [1, 1, 1, 1, 1]}, None, []),
    ],
)
def test_the_worst_frames_are_shown_worst_first(series: dict[str, list[float]], decider: str | None, worst: list[int]):
    made = evaluation(**series)
    assert decider_of(made.rows[1]) == decider
    if decider is not None:
        picture = worst_frames(made, made.rows[1], decider, count=2, height=SIZE)
        assert [cell(picture, 0, column, SIZE)[0] for column in range(2)] == [SHADES[place] for place in worst]
        assert [cell(picture, 1, column, SIZE)[0] for column in range(2)] == [SHADES[place] + 10 for place in worst]


def test_flicker_is_shown_where_it_is_most_and_only_where_it_is_seen():
    made = evaluation(warping_short=[np.nan, 0.1, 0.1, 0.3, 0.1])

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Everything moves two columns to the right from the brighter to the darker one, and back."""
        there = 2.0 if first.mean() > second.mean() else -2.0
        return np.dstack([np.full((SIZE, SIZE), there), np.zeros((SIZE, SIZE))]).astype(np.float32)

    picture = flicker_maps(made, flow, height=SIZE)
    assert picture is not None
    assert [cell(picture, 0, column, SIZE)[0] for column in range(2)] == [SHADES[2] + 10, SHADES[3] + 10]
    np.testing.assert_allclose(cell(picture, 0, 2, SIZE), heat(np.full((1, 1), 20 / 255))[0, 0], atol=4)
    right = picture[TEXT + SIZE - 6, 2 * (SIZE + GAP) + SIZE - 1]
    np.testing.assert_array_equal(right, NOT_SEEN)


def test_single_frames_do_not_flicker():
    assert flicker_maps(evaluation(warping_short=[np.nan] * COUNT), lambda first, second: np.zeros((1, 1, 2))) is None
    assert flicker_maps(evaluation(), lambda first, second: np.zeros((1, 1, 2))) is None
