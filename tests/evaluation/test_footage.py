"""True frames and takes of them: the right frames, the right sound, and sentences where they do not fit."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.synthetic_clip import edit_transforms, write_clip

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.footage import (
    ENCODED,
    Reference,
    kept_take,
    run_reference,
    video_reference,
    video_sound,
    video_take,
    write_pictures,
)
from ntalker_ns.evaluation.frame_file import FrameFile
from ntalker_ns.evaluation.options import FrameOptions
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_dataset import TalkerDataset

COUNT, SIZE = 30, 32


def ignore(place: int, picture: np.ndarray) -> None:
    """A judge that looks away."""


def pictures(count: int, width: int = SIZE, height: int = SIZE) -> list[np.ndarray]:
    """Grey pictures, each three values brighter than the last."""
    return [np.full((height, width, 3), 60 + 3 * i, np.uint8) for i in range(count)]


def tone(count: int) -> np.ndarray:
    """The sound of so many frames, of a pitch that rises from frame to frame."""
    frame = np.repeat(np.arange(count), 640)
    return (0.3 * np.sin(2 * np.pi * (200 + 20 * frame) * np.arange(len(frame)) / 16000)).astype(np.float32)


def levels(frames) -> np.ndarray:
    """Which picture each frame shows, by its brightness."""
    return np.array([round((float(frame.mean()) - 60) / 3) for frame in frames])


def reference(indices: np.ndarray, of: int) -> Reference:
    """True frames out of a clip."""
    frames = FrameFile(SIZE, SIZE)
    for index in indices:
        frames.append(pictures(of)[index])
    points = np.full((len(indices), 478, 3), np.nan)
    sound = tone(of)[indices[0] * 640 : (indices[-1] + 1) * 640]
    return Reference("clip", indices, of, frames, points, lambda place: {}, sound)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_pictures(path, pictures(COUNT), tone(COUNT))
    return path


def test_true_frames_of_a_run_are_the_longest_run_of_those_that_show_a_face(tmp_path: Path):
    data = write_clip(tmp_path / "anna", 24, size=SIZE)
    edit_transforms(data, lambda meta: [meta["frames"][i].update(tracked=False) for i in (9, 22)])
    parser = TalkerDataParserConfig(data=data, holdout="third-3").setup()
    train, held_out = (TalkerDataset(parser.get_dataparser_outputs(split)) for split in ("train", "val"))
    pipeline = SimpleNamespace(datamanager=SimpleNamespace(train_dataset=train, eval_dataset=held_out))
    for options, frames in ((FrameOptions("held-out"), range(16, 22)), (FrameOptions("all"), range(10, 22))):
        truth = run_reference(pipeline, options)
        assert (truth.indices.tolist(), truth.of) == (list(frames), 24)
        assert len(truth.frames) == len(frames)


def test_a_video_is_its_own_reference(clip: Path):
    truth = video_reference(clip)
    assert (len(truth), truth.of, truth.size) == (COUNT, COUNT, (SIZE, SIZE))
    np.testing.assert_array_equal(levels(truth.frames), np.arange(COUNT))
    assert truth.sound is not None and len(truth.sound) == pytest.approx(COUNT * 640, abs=640)
    assert set(truth.masks(0)) == {"full"}


def test_a_video_of_the_whole_clip_is_cut_to_the_true_frames(clip: Path):
    truth = reference(np.arange(20, 28), COUNT)
    seen = []
    take = video_take("ours", clip, truth, lambda place, picture: seen.append((place, round(picture.mean() * 255))))
    np.testing.assert_array_equal(levels(take.frames), np.arange(20, 28))
    assert [place for place, _ in seen] == list(range(8))
    assert seen[0][1] == pytest.approx(60 + 3 * 20, abs=1)
    assert take.sound is not None and truth.sound is not None
    # The encoder's own delay apart, the sound is that of the same frames.
    agreement = np.correlate(take.sound[:5120], truth.sound[:5120], "same")
    assert abs(int(np.argmax(agreement)) - 2560) < 100


def test_a_video_of_the_true_frames_alone_is_taken_whole(clip: Path):
    truth = reference(np.arange(40, 40 + COUNT), 100)
    take = video_take("ours", clip, truth, ignore)
    np.testing.assert_array_equal(levels(take.frames), np.arange(COUNT))
    assert take.notes == [ENCODED]


def test_a_video_of_another_length_is_refused_beside_a_clip_and_cut_beside_a_video(clip: Path):
    with pytest.raises(NTalkerError, match=r"clip\.mp4 has 30 frames at 25 Hz, but there are 8 true frames .* of 100"):
        video_take("ours", clip, reference(np.arange(8), 100), ignore)
    take = video_take("ours", clip, reference(np.arange(26), 26), ignore)
    assert len(take) == 26
    assert take.notes[1] == "it has 30 frames and not 26: the first 26 true frames are compared"


@pytest.mark.parametrize(
    ("first", "count", "of", "shown", "noted"),
    [
        (60, COUNT - 1, 90, range(COUNT - 1), "30 frames and not 29: the first 29 true"),
        (60, COUNT + 12, 102, range(COUNT), "30 frames and not 42: the first 30 true"),
        (20, 8, COUNT - 1, range(20, 28), "30 frames and not 29: the first 8 true"),
        (20, 11, COUNT + 1, range(20, 30), "30 frames and not 31: the first 10 true"),
    ],
)
def test_a_few_frames_more_or_fewer_are_noted(first: int, count: int, of: int, shown: range, noted: str, clip: Path):
    seen = []
    truth = reference(np.arange(first, first + count), of)
    take = video_take("ours", clip, truth, lambda place, picture: seen.append(place))
    np.testing.assert_array_equal(levels(take.frames), shown)
    assert seen == list(range(len(shown)))
    assert noted in take.notes[1]


@pytest.mark.parametrize(("first", "count", "of"), [(60, COUNT + 13, 103), (36, 2, 38), (0, 8, COUNT + 13)])
def test_many_frames_more_or_fewer_are_refused(first: int, count: int, of: int, clip: Path):
    with pytest.raises(NTalkerError, match="give a video of either length"):
        video_take("ours", clip, reference(np.arange(first, first + count), of), ignore)


def test_videos_are_brought_to_the_true_frames_size(tmp_path: Path):
    path = tmp_path / "large.mp4"
    write_pictures(path, pictures(8, 2 * SIZE, 2 * SIZE), None)
    take = video_take("ours", path, reference(np.arange(8), 8), ignore)
    assert take.frames.shape == (SIZE, SIZE, 3)
    assert "resized from 64x64" in take.notes
    wide = tmp_path / "wide.mp4"
    write_pictures(wide, pictures(8, 2 * SIZE, SIZE), None)
    with pytest.raises(NTalkerError, match="64x32, the true frames are 32x32"):
        video_take("ours", wide, reference(np.arange(8), 8), ignore)


def test_a_video_of_an_odd_size_loses_the_column_that_it_gained(tmp_path: Path):
    path = tmp_path / "odd.mp4"
    write_pictures(path, pictures(8, SIZE - 1, SIZE - 1), None)
    frames, points = FrameFile(SIZE - 1, SIZE - 1), np.full((8, 478, 3), np.nan)
    for picture in pictures(8, SIZE - 1, SIZE - 1):
        frames.append(picture)
    take = video_take("ours", path, Reference("clip", np.arange(8), 8, frames, points, lambda place: {}, None), ignore)
    assert take.frames.shape == (SIZE - 1, SIZE - 1, 3)
    assert take.notes == [ENCODED, "without sound: the true frames' sound is used"]


def test_a_silent_video_is_heard_with_the_true_sound(tmp_path: Path):
    path = tmp_path / "silent.mp4"
    write_pictures(path, pictures(8), None)
    assert video_sound(path) is None
    truth = reference(np.arange(8), 8)
    take = video_take("ours", path, truth, ignore)
    assert take.sound is not None and truth.sound is not None
    np.testing.assert_array_equal(take.sound, truth.sound)
    assert any("without sound" in note for note in take.notes)


def test_a_take_keeps_rounded_pictures_and_the_judge_sees_exact_ones():
    truth, seen = reference(np.arange(3), 3), []
    exact = [np.full((SIZE, SIZE, 3), value, np.float32) for value in (0.1234, 0.5, 1.0)]
    take = kept_take("made", exact, truth, lambda place, picture: seen.append(picture[0, 0, 0]))
    np.testing.assert_allclose(seen, [0.1234, 0.5, 1.0], rtol=1e-6)
    assert [int(frame[0, 0, 0]) for frame in take.frames] == [31, 128, 255]
    assert np.isnan(take.points).all() and take.points.shape == (3, 478, 3)
