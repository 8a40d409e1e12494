"""Videos decoded back: pictures, sound, their sync, and nothing half-written."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound, read_audio
from ntalker_ns.media.video_writer import check_output, write_frames, write_video


def pictures(count: int, height: int = 48, width: int = 64, flash: int = -1) -> Iterator[np.ndarray]:
    for index in range(count):
        yield np.full((height, width, 3), 255 if index == flash else 0, np.uint8)


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def durations(path: Path) -> dict[str, float]:
    """Seconds of each track, by type."""
    with av.open(str(path)) as container:
        return {stream.type: float((stream.duration or 0) * (stream.time_base or 0)) for stream in container.streams}


def click_at(seconds: float, length: float, rate: int) -> Sound:
    sound = np.zeros(round(length * rate), np.float32)
    sound[round(seconds * rate) : round(seconds * rate) + 3 * rate // 1000] = 0.9
    return Sound.of_waveform(sound, rate)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_a_click_comes_with_its_flash(tmp_path: Path, rate: int, fps: float):
    click = click_at(30 / fps, 60 / fps, rate)
    assert write_video(tmp_path / "out.mp4", pictures(60, flash=30), fps, click) == 60
    frames = decoded(tmp_path / "out.mp4")
    flash = frames[int(np.argmax([frame.to_ndarray(format="gray").mean() for frame in frames]))]
    sound = read_audio(tmp_path / "out.mp4")
    click = np.flatnonzero(np.abs(sound) > 0.3)[0] / 16000
    assert flash.time == pytest.approx(30 / fps, abs=1e-3)
    assert click == pytest.approx(30 / fps, abs=0.003)


def test_frames_rate_and_size_are_kept(tmp_path: Path):
    write_video(tmp_path / "out.mp4", pictures(50), 25.0)
    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == 50
    assert (frames[0].width, frames[0].height) == (64, 48)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=1e-4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(25)
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert not container.streams.audio


@pytest.mark.parametrize("seconds", [2.0, 1.99, 2.01, 3.5])
def test_sound_and_picture_end_together(tmp_path: Path, seconds: float):
    click = click_at(0.5, seconds, 16000)
    write_video(tmp_path / "out.mp4", pictures(50), 25.0, click)
    tracks = durations(tmp_path / "out.mp4")
    assert tracks["video"] == pytest.approx(2.0, abs=1e-3)
    assert tracks["audio"] == pytest.approx(min(seconds, 2.04), abs=0.03)


def test_odd_sides_get_their_last_line_twice(tmp_path: Path):
    picture = np.zeros((47, 63, 3), np.uint8)
    picture[:, -1] = picture[-1] = 255
    write_video(tmp_path / "out.mp4", [picture] * 3, 25.0, crf=0)
    image = decoded(tmp_path / "out.mp4")[1].to_ndarray(format="gray")
    assert image.shape == (48, 64)
    assert image[:, -2:].min() > 250 and image[-2:].min() > 250
    assert image[:-3, :-3].max() < 5


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120)])
def test_colours_survive(tmp_path: Path, colour: tuple[int, int, int]):
    write_video(tmp_path / "out.mp4", [np.full((48, 64, 3), colour, np.uint8)] * 3, 25.0)
    image = decoded(tmp_path / "out.mp4")[1].to_ndarray(format="rgb24")
    np.testing.assert_allclose(image[20:28, 20:44].mean(axis=(0, 1)), colour, atol=3)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 5])
def test_nothing_is_left_when_the_frames_fail(tmp_path: Path, error: type[BaseException], after: int):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "out.mp4").write_text("the last good one")

    def failing() -> Iterator[np.ndarray]:
        yield from pictures(after)
        raise error

    with pytest.raises(error):
        write_video(tmp_path / "out" / "out.mp4", failing(), 25.0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.mp4"]
    assert (tmp_path / "out" / "out.mp4").read_text() == "the last good one"


def test_faults_are_one_sentence(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no frame"):
        write_video(tmp_path / "out.mp4", [], 25.0)
    with pytest.raises(NTalkerError, match=r"Frame 1 .* one size"):
        write_video(tmp_path / "out.mp4", [*pictures(1), *pictures(1, 32, 32)], 25.0)
    assert not list(tmp_path.iterdir())


def see_through(count: int, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    """A block that wanders over nothing, RGBA."""
    for index in range(count):
        picture = np.zeros((height, width, 4), np.uint8)
        picture[10:30, 10 + index : 30 + index] = (30, 180, 60, 255)
        yield picture


def decoded_with_alpha(path: Path) -> list[np.ndarray]:
    """FFmpeg's own VP9 decoder drops alpha; libvpx keeps it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
        decoder.extradata = stream.codec_context.extradata
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    return [frame.to_ndarray(format="rgba") for frame in frames]


def test_webm_keeps_alpha_and_sound(tmp_path: Path):
    click = click_at(0.4, 0.8, 44100)
    assert write_frames(tmp_path / "out.webm", see_through(20), 25.0, click) == 20
    frames = decoded_with_alpha(tmp_path / "out.webm")
    assert len(frames) == 20
    for index in (0, 7, 19):
        alpha = frames[index][..., 3].astype(int)
        assert alpha[14:26, 14 + index : 26 + index].min() > 250
        assert alpha[:6].max() < 5 and alpha[34:].max() < 5
        colour = frames[index][14:26, 14 + index : 26 + index, :3].mean(axis=(0, 1))
        np.testing.assert_allclose(colour, (30, 180, 60), atol=4)
    sound = read_audio(tmp_path / "out.webm")
    assert np.flatnonzero(np.abs(sound) > 0.2)[0] / 16000 == pytest.approx(0.4, abs=0.01)


def test_a_folder_keeps_every_value_and_the_sound(tmp_path: Path):
    click = click_at(0.1, 2.0, 44100)
    write_frames(tmp_path / "new" / "frames", see_through(5), 25.0, click)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["frames"]
    names = sorted(path.name for path in (tmp_path / "new" / "frames").iterdir())
    assert names == [*(f"{index:05d}.png" for index in range(5)), "audio.wav"]
    for index, picture in enumerate(see_through(5)):
        stored = cv2.imread(str(tmp_path / "new" / "frames" / f"{index:05d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored[..., [2, 1, 0, 3]], picture)
    assert len(read_audio(tmp_path / "new" / "frames" / "audio.wav")) == pytest.approx(0.2 * 16000, abs=2)


def test_outputs_that_cannot_be_are_said_before_any_work(tmp_path: Path):
    check_output(tmp_path / "a.mp4")
    check_output(tmp_path / "a.webm", alpha=True)
    check_output(tmp_path / "frames", alpha=True)
    with pytest.raises(NTalkerError, match=r"H.264 keeps no alpha.*\.webm \(VP9\).*folder"):
        check_output(tmp_path / "a.mp4", alpha=True)
    with pytest.raises(NTalkerError, match=r"must end in \.mp4 or \.webm"):
        check_output(tmp_path / "a.avi")
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(NTalkerError, match=r"dir\.mp4 is a folder"):
        check_output(tmp_path / "dir.mp4")
    (tmp_path / "dir.mp4").rmdir()
    (tmp_path / "plain").touch()
    for name in ("plain", "plain/a.mp4", "plain/frames"):
        with pytest.raises(NTalkerError, match="plain: Not a directory"):
            check_output(tmp_path / name)
    (tmp_path / "plain").unlink()
    (tmp_path / "frames").mkdir()
    check_output(tmp_path / "frames")
    (tmp_path / "frames" / "mine.txt").write_text("keep")
    with pytest.raises(NTalkerError, match="not empty"):
        check_output(tmp_path / "frames")
    with pytest.raises(NTalkerError, match="no alpha"):
        write_video(tmp_path / "a.mp4", see_through(2))
    with pytest.raises(NTalkerError, match="no frame"):
        write_frames(tmp_path / "none", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames"]
