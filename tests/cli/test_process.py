"""`ntalker process` from end to end on the made-up clip, and on clips that cannot be used."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import CLIP_SIZE, DemoClip
from support.paths import MEDIA

from ntalker_ns.capture.process import ProcessOptions, process_clip
from ntalker_ns.cli.process import Process
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound, read_sound
from ntalker_ns.media.video_reader import read_frames
from ntalker_ns.media.video_writer import write_video


def transforms(folder: Path) -> dict:
    return json.loads((folder / "transforms.json").read_text())


def test_the_data_set_is_complete(processed_clip: Path):
    values = transforms(processed_clip)
    frames = values["frames"]
    assert (values["format"], values["format_version"], values["fps"]) == ("ntalker", 1, 25.0)
    assert len(frames) == 75
    assert [f["time"] for f in frames] == pytest.approx(np.linspace(0, 1, 75).tolist())
    for index, frame in enumerate(frames):
        assert (processed_clip / frame["file_path"]).is_file()
        labels = cv2.imread(str(processed_clip / "masks" / f"{index:05d}.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (CLIP_SIZE, CLIP_SIZE) and labels.max() <= 4
        x0, y0, x1, y1 = frame["face_box"]
        assert 0 <= x0 < x1 <= CLIP_SIZE and 0 <= y0 < y1 <= CLIP_SIZE
    assert np.load(processed_clip / "landmarks.npy").shape == (75, 478, 2)
    assert np.load(processed_clip / "audio_features/whisper.npy").shape[:2] == (75, 16)
    face = np.load(processed_clip / "face_shape.npy")
    # The nose tip is before the eyes' corners and the chin, and those before the ears.
    assert face.shape == (478, 3) and face[4, 1] < face[[33, 263, 152], 1].min()
    assert face[[33, 263, 152], 1].max() < face[[234, 454], 1].min()
    poses, by_landmarks = (
        np.array([f["transform_matrix"] for f in frames]),
        np.load(processed_clip / "landmark_poses.npy"),
    )
    # Both solves see the same head: their cameras differ by a few hundredths of the head's size and not at all by more.
    assert by_landmarks.shape == (75, 3, 4) and np.abs(by_landmarks[:, :, :3] - poses[:, :3, :3]).max() < 0.1
    present = {path.name for path in processed_clip.iterdir()}
    assert present == {
        "audio.wav", "audio_features", "background.png", "face_shape.npy", "images", "landmark_poses.npy",
        "landmarks.npy", "masks", "preview.png", "transforms.json",
    }  # fmt: skip


def test_the_head_is_in_the_unit_box_and_the_cameras_look_at_it(processed_clip: Path):
    values = transforms(processed_clip)
    for frame in values["frames"][::10]:
        c2w = np.array(frame["transform_matrix"])
        centre = -c2w[:3, :3].T @ c2w[:3, 3]
        pixel = values["fl_x"] * np.array([centre[0], -centre[1]]) / -centre[2] + [values["cx"], values["cy"]]
        x0, y0, x1, y1 = frame["face_box"]
        assert x0 < pixel[0] < x1 and y0 - 0.2 * (y1 - y0) < pixel[1] < y1


def test_the_tracker_reports_its_own_figures(processed_clip: Path):
    figures = transforms(processed_clip)["tracking"]
    assert 0 < figures["residual_px"] < 2.0
    assert 0 < figures["rotation_jitter_deg"] < 0.5
    assert figures["texture_deviation"] <= figures["texture_deviation_landmarks_only"]


def spoil(source: Path, target: Path, change, audio: Path | None) -> Path:
    """The clip with its frames changed: change(index, image) gives each new one."""
    frames = (change(i, image) for i, image in enumerate(read_frames(source)))
    write_video(target, frames, 25.0, None if audio is None else read_sound(audio))
    return target


def grey(image: np.ndarray) -> np.ndarray:
    return np.full_like(image, 120)


def test_a_short_gap_is_bridged_and_said(demo_clip: DemoClip, tmp_path: Path):
    clip = spoil(demo_clip.path, tmp_path / "gap.mp4", lambda i, im: grey(im) if 30 <= i < 34 else im, demo_clip.path)
    report = process_clip(clip, tmp_path / "data", ProcessOptions(size=CLIP_SIZE))
    frames = transforms(tmp_path / "data")["frames"]
    assert [i for i, f in enumerate(frames) if not f["tracked"]] == [30, 31, 32, 33]
    assert any("frames 30-33" in note for note in report.notes)
    positions = np.array([f["transform_matrix"] for f in frames])[:, :3, 3]
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1)[28:36].max() < 0.5


def test_clips_that_cannot_be_used_leave_nothing_behind(demo_clip: DemoClip, tmp_path: Path):
    audio = demo_clip.path
    cases = {
        "no video file": tmp_path / "none.mp4",
        "no audio track": spoil(audio, tmp_path / "mute.mp4", lambda i, im: im, None),
        "No face": spoil(audio, tmp_path / "empty.mp4", lambda i, im: grey(im), audio),
        "no face in frames 20-49": spoil(
            audio, tmp_path / "long.mp4", lambda i, im: grey(im) if 20 <= i < 50 else im, audio
        ),
    }
    for words, clip in cases.items():
        with pytest.raises(NTalkerError, match=words) as error:
            process_clip(clip, tmp_path / "data", ProcessOptions(size=CLIP_SIZE))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "data").exists()
        assert not list(tmp_path.glob(".data*"))


def test_a_clip_of_a_second_is_too_short(demo_clip: DemoClip, tmp_path: Path):
    frames = [image for i, image in enumerate(read_frames(demo_clip.path)) if i < 25]
    second = Sound.of_waveform(0.1 * np.sin(np.arange(16000) / 10).astype(np.float32))
    write_video(tmp_path / "short.mp4", iter(frames), 25.0, second)
    with pytest.raises(NTalkerError, match=r"holds 1\.0 s of picture"):
        process_clip(tmp_path / "short.mp4", tmp_path / "data")


def no_work(*arguments: object) -> None:
    raise AssertionError("the long work has begun")


@pytest.mark.parametrize(
    "options",
    [
        {"size": 33},
        {"features": "deepspeech"},
        {"features": "none.npy"},
        {"feature_model": "hubert"},
        {"parsing_model": "/nowhere"},
    ],
)
def test_impossible_options_are_refused_before_any_work(
    demo_clip: DemoClip, tmp_path: Path, options: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ntalker_ns.capture.crop.survey_faces", no_work)
    with pytest.raises(NTalkerError):
        process_clip(demo_clip.path, tmp_path / "data", ProcessOptions(**{"size": CLIP_SIZE, **options}))
    assert list(tmp_path.iterdir()) == []


def test_a_feature_file_of_another_length_is_refused_once_the_frames_are_counted(
    demo_clip: DemoClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ntalker_ns.capture.process.observe_frames", no_work)
    np.save(tmp_path / "own.npy", np.zeros((50, 16, 4), np.float32))
    with pytest.raises(NTalkerError, match=r"covers 50 frames .*, but the sound has 75"):
        process_clip(
            demo_clip.path, tmp_path / "data", ProcessOptions(size=CLIP_SIZE, features=str(tmp_path / "own.npy"))
        )


def test_the_clip_must_not_lie_where_the_data_set_is_to_be(demo_clip: DemoClip):
    with pytest.raises(NTalkerError, match="would be replaced"):
        process_clip(demo_clip.path, demo_clip.path.parent, ProcessOptions(size=CLIP_SIZE))
    assert demo_clip.path.is_file()


@pytest.mark.slow
def test_two_faces_the_larger_is_taken_and_the_result_repeats(
    demo_clip: DemoClip, tmp_path: Path, capsys: pytest.CaptureFixture
):
    def beside(index: int, image: np.ndarray) -> np.ndarray:
        canvas = np.full((CLIP_SIZE, 2 * CLIP_SIZE, 3), 120, np.uint8)
        canvas[:, :CLIP_SIZE] = image
        side = round(0.75 * CLIP_SIZE) // 2 * 2
        canvas[-side:, -side:] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return canvas

    clip = spoil(demo_clip.path, tmp_path / "two.mp4", beside, demo_clip.path)
    for name in ("one", "again"):
        Process(clip, tmp_path / name, size=CLIP_SIZE).main()
    assert "2 faces are in the picture" in capsys.readouterr().out
    one, again = transforms(tmp_path / "one"), transforms(tmp_path / "again")
    assert one == again
    x0, _, side = one["source"]["crop"]
    assert x0 + side / 2 < CLIP_SIZE


@pytest.mark.slow
@pytest.mark.parametrize("name, residual, jitter", [("portrait-20s", 0.8, 0.4), ("hdtf-katiehill", 1.6, 0.8)])
def test_real_clips_are_tracked_well(tmp_path: Path, name: str, residual: float, jitter: float):
    clip = MEDIA / f"{name}.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip.name} is not in ../shared/media")
    report = process_clip(clip, tmp_path / "data")
    assert report.figures["residual_px"] <= residual
    assert report.figures["rotation_jitter_deg"] <= jitter
