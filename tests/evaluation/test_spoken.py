"""The agreement of a mouth with its sound: known shifts are found."""

import numpy as np
import pytest

from ntalker_ns.demo.clip import make_clip
from ntalker_ns.evaluation.footage import Reference, Take
from ntalker_ns.evaluation.frame_file import FrameFile
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.evaluation.scores import Scene, Tools, spoken
from ntalker_ns.face import mesh_indices
from ntalker_ns.media.sound import read_audio
from ntalker_ns.speech.offset import shifted

NOTHING = Unavailable("not needed")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Twenty seconds of the made-up clip's sound, and landmarks that open as its mouth does."""
    path = tmp_path_factory.mktemp("spoken") / "clip.mp4"
    openings = make_clip(path, 20.0, 64, seed=3).mouth_opening
    points = np.zeros((len(openings), 478, 3))
    points[:, mesh_indices.CHIN, 1] = 100.0
    points[:, mesh_indices.LOWER_INNER_LIP, 1] = 70.0 + 100.0 * openings
    points[:, mesh_indices.UPPER_INNER_LIP, 1] = 70.0
    return read_audio(path), points


def found(points: np.ndarray, sound: np.ndarray | None) -> dict[str, float]:
    frames = FrameFile(8, 8)
    for _ in points:
        frames.append(np.zeros((8, 8, 3), np.uint8))
    take = Take("true", frames, points, sound)
    reference = Reference("clip", np.arange(len(points)), len(points), frames, points, lambda place: {}, sound)
    tools = Tools(flow=NOTHING, syncnet=NOTHING, arcface=NOTHING, clip=NOTHING, lpips=NOTHING, perceptual=NOTHING)
    return spoken(take, Scene(reference, take, tools)).values


@pytest.mark.parametrize("milliseconds", [-120, -70, 120, 200])
def test_a_shift_of_the_sound_is_found_to_20_ms(talk: tuple[np.ndarray, np.ndarray], milliseconds: int):
    sound, points = talk
    still, moved = found(points, sound), found(points, shifted(sound, -milliseconds / 40.0))
    assert moved["spoken_offset"] - still["spoken_offset"] == pytest.approx(milliseconds, abs=20.0)
    assert moved["spoken_peak"] == pytest.approx(still["spoken_peak"], abs=0.05)


def test_a_mouth_that_follows_nothing_has_no_offset(talk: tuple[np.ndarray, np.ndarray]):
    sound, points = talk
    values = found(points[::-1].copy(), sound)
    assert "spoken_offset" not in values
    assert values["spoken_peak"] < 0.5 * found(points, sound)["spoken_peak"]


def test_without_sound_or_faces_it_is_said(talk: tuple[np.ndarray, np.ndarray]):
    sound, points = talk
    with pytest.raises(Unavailable, match="no sound"):
        found(points, None)
    unseen = points.copy()
    unseen[30:] = np.nan
    with pytest.raises(Unavailable, match="fewer than 40 frames"):
        found(unseen, sound)
