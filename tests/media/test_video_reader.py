"""Frames at a steady rate from any video."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import read_audio
from ntalker_ns.media.video_reader import fitted, placement, probe_video, read_frames, read_stored_sizes

LEVELS = 4
"""Grey levels between consecutive frames: far above the codec's error."""


def write_ramp(path: Path, stamps: list[Fraction], size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame k is grey of level LEVELS * k and shown at stamps[k] seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 600)
        for k, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), LEVELS * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(stamp * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_pictures(path: Path, pictures: list[np.ndarray], codec: str = "libx264", **settings: Any) -> Path:
    """A video of RGB pictures at 25 Hz, almost without loss; `settings` are the encoder's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = settings.pop("pix_fmt", "yuv444p")
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24" if picture.dtype == np.uint8 else "rgb48le")
            matrix = stream.codec_context.colorspace
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt, dst_colorspace=matrix)))
        container.mux(stream.encode(None))
    return path


def ramps(width: int = 64, height: int = 48) -> np.ndarray:
    """Red grows to the right, green downwards: no turn or mirror of it is itself."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 2 * x, 40 + 2 * y, np.full_like(x, 128)], 2).astype(np.uint8)


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Writes into an mp4's track that its pixel (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 44
    one = 1 << 16
    content[place : place + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))


def shown(path: Path) -> list[int]:
    """Which source frame each output frame is."""
    return [round(float(frame.mean()) / LEVELS) for frame in read_frames(path)]


@pytest.mark.parametrize("rate", [12, 24, 25, 30, 50])
def test_every_output_frame_is_the_source_frame_nearest_in_time(tmp_path: Path, rate: int):
    count = 50
    path = write_ramp(tmp_path / "ramp.mp4", [Fraction(k, rate) for k in range(count)])
    got = shown(path)
    assert abs(len(got) - 25 * count / rate) <= 1
    for i, k in enumerate(got):
        assert abs(k / rate - i / 25) <= 0.5 / rate + 1e-3


def test_a_variable_rate_keeps_its_timing(tmp_path: Path):
    stamps = [Fraction(k, 25) for k in range(10)] + [Fraction(20 + 2 * k, 25) for k in range(10)]
    got = shown(write_ramp(tmp_path / "variable.mp4", stamps))
    times = np.array([float(s) for s in stamps])
    for i, k in enumerate(got):
        assert abs(times[k] - i / 25) <= np.abs(times - i / 25).min() + 1e-3


def test_probe_says_size_rate_and_length(tmp_path: Path):
    info = probe_video(write_ramp(tmp_path / "ramp.mp4", [Fraction(k, 30) for k in range(60)]))
    assert (info.width, info.height, info.frames, info.has_audio) == (64, 48, 50, False)
    assert info.fps == pytest.approx(30, abs=0.1)


def test_a_missing_file_a_text_file_and_a_sound_file_are_refused(tmp_path: Path, speech: Path):
    text = tmp_path / "clip.mp4"
    text.write_text("no video at all")
    missing = tmp_path / "none.mp4"
    for path, words in ((missing, "no video file"), (text, "cannot be decoded"), (speech, "no video track")):
        with pytest.raises(NTalkerError, match=words) as error:
            probe_video(path)
        assert str(path) in str(error.value)


def test_a_recording_of_unknown_length_is_measured(tmp_path: Path):
    class Pipe:
        """As a browser writes: it cannot go back to put the length into the header."""

        def __init__(self) -> None:
            self.content = b""

        def write(self, data: bytes) -> int:
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with av.open(pipe, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        for _ in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    path = tmp_path / "live.mkv"
    path.write_bytes(pipe.content)
    with av.open(str(path)) as container:
        assert container.duration is None
    assert probe_video(path).frames == len(shown(path)) == 60


@pytest.mark.parametrize(
    "matrix",
    [
        *((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)),
        *((-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)),
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_file_says(tmp_path: Path, matrix: tuple[int, int, int, int]):
    path = write_pictures(tmp_path / "a.mp4", [ramps()] * 2)
    set_display_matrix(path, *matrix)
    a, b, c, d = matrix
    y, x = np.mgrid[:48, :64]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    expected = np.zeros((shown_y.max() + 1, shown_x.max() + 1, 3), np.uint8)
    expected[shown_y, shown_x] = ramps()
    frame, info = next(read_frames(path)), probe_video(path)
    assert frame.shape == expected.shape == (info.height, info.width, 3)
    np.testing.assert_allclose(frame, expected.astype(float), atol=8)


def test_what_a_camera_wrote_into_its_pictures_does_no_harm(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned clockwise. Newer FFmpegs hand it on, with the rest.
    Image.fromarray(ramps()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet((tmp_path / "a.jpg").read_bytes())
        packet.pts, packet.dts, packet.time_base, packet.stream = 0, 0, Fraction(1, 25), stream
        container.mux(packet)
    frame = next(read_frames(tmp_path / "a.mkv"))
    expected = np.rot90(ramps(), -1) if frame.shape[0] == 64 else ramps()
    np.testing.assert_allclose(frame, expected.astype(float), atol=12)


@pytest.mark.parametrize(
    "aspect,size,turned",
    [("4/3", (64, 48), False), ("3/4", (48, 64), False), ("4/3", (48, 64), True), ("401/400", (48, 48), False)],
)
def test_pixels_become_square(tmp_path: Path, aspect: str, size: tuple[int, int], turned: bool):
    pictures = [ramps(48, 48)] * 2
    path = write_pictures(tmp_path / "a.mp4", pictures, sample_aspect_ratio=Fraction(aspect))
    if turned:
        set_display_matrix(path, 0, 1, -1, 0)
    frame, info = next(read_frames(path)), probe_video(path)
    assert (info.width, info.height) == frame.shape[1::-1] == size
    corner = frame[0, -1] if turned else frame[0, 0]
    np.testing.assert_allclose(corner, [40, 40, 128], atol=8)


@pytest.mark.parametrize("width,height,matrix", [(640, 480, 5), (1280, 720, 1), (720, 1280, 1)])
def test_where_no_colour_matrix_is_said_players_guess_it_by_size(tmp_path: Path, width: int, height: int, matrix: int):
    colour = np.full((height, width, 3), (200, 60, 50), np.uint8)
    untagged = tmp_path / "a.mkv"
    with av.open(str(untagged), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        frame = av.VideoFrame.from_ndarray(colour, "rgb24").reformat(format="yuv444p", dst_colorspace=matrix)
        frame.colorspace = 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(next(read_frames(untagged))[5, 5], (200.0, 60.0, 50.0), atol=4)


def to_bt2020_light(colours: np.ndarray) -> np.ndarray:
    """Light of sRGB colours on a screen whose white is 203 cd/m2, by BT.2020's primaries."""
    coded = colours / 255.0
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    return 203.0 * light @ to_bt2020.T


def pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10000.0) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    luminance = light @ [0.2627, 0.6780, 0.0593]
    scene = light / 1000.0 * (luminance[:, None] / 1000.0) ** (1 / 1.2 - 1)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


@pytest.mark.parametrize("transfer,code", [(16, pq), (18, hlg)])
def test_a_high_dynamic_range_is_read_as_an_ordinary_one(tmp_path: Path, transfer: int, code: Any):
    colours = np.array([[255, 255, 255], [128, 128, 128], [200, 60, 50], [224, 172, 140], [20, 40, 90], [4, 4, 4]])
    signal = np.round(65535 * code(to_bt2020_light(colours))).astype(np.uint16)
    picture = np.repeat(signal[None], 16, 0).repeat(16, 1)
    tags = {"pix_fmt": "yuv444p10le", "colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    frame = next(read_frames(write_pictures(tmp_path / "a.mkv", [picture], "ffv1", **tags)))
    np.testing.assert_allclose(frame[8, 8::16], colours.astype(float), atol=8)


def test_a_cover_is_no_film(tmp_path: Path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, pix_fmt="yuvj420p", width=32, height=32)
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux([*sound.encode(frame), *sound.encode(None)])
    with av.open(str(tmp_path / "song.m4a")) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(NTalkerError, match="no video track"):
        probe_video(tmp_path / "song.m4a")


def test_a_clip_with_damaged_frames_keeps_the_time_of_the_others(tmp_path: Path):
    ramp = write_ramp(tmp_path / "ramp.mp4", [Fraction(k, 25) for k in range(40)])
    with av.open(str(ramp)) as source, av.open(str(tmp_path / "damaged.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for k, packet in enumerate(packet for packet in source.demux() if packet.pts is not None):
            copy = av.Packet(b"\xff" * 40 if k >= 25 else bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, stream, packet.is_keyframe
            container.mux(copy)
    got = shown(tmp_path / "damaged.mp4")
    assert 20 <= len(got) <= 40
    assert got[:20] == list(range(20))


def write_piece(path: Path, level: int, size: tuple[int, int], frames: int) -> bytes:
    """The bytes of a transport stream: grey pictures of a level, and as long a tone."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=16000, layout="mono")
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))
        for start in range(0, frames * 640, 1024):
            samples = (0.2 * np.sin(np.arange(start, start + 1024) * level)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path.read_bytes()


def test_joined_pieces_follow_each_other_in_one_size(tmp_path: Path):
    """Time stamps begin anew, and the picture grows, as in a call whose line gets better."""
    pieces = [(60, (64, 48), 25), (120, (128, 96), 30), (200, (64, 48), 20)]
    clip = tmp_path / "call.ts"
    clip.write_bytes(b"".join(write_piece(tmp_path / f"{piece[0]}.ts", *piece) for piece in pieces))
    assert [frame.shape[:2] for frame in read_stored_sizes(clip)][24:56:30] == [(48, 64), (96, 128)]
    for size in (None, (128, 96)):
        frames = list(read_frames(clip, size=size))
        assert {frame.shape for frame in frames} == {(96, 128, 3) if size else (48, 64, 3)}
        assert len(frames) == pytest.approx(75, abs=4)
        levels = np.array([frame.mean() for frame in frames])
        changes = np.flatnonzero(np.abs(np.diff(levels)) > 20) + 1
        np.testing.assert_allclose(changes, [25, 55], atol=3)
        np.testing.assert_allclose(levels[[5, 40, 70]], [60, 120, 200], atol=2)
    assert len(read_audio(clip)) / 16000 == pytest.approx(len(frames) / 25, abs=0.15)


def test_a_picture_of_another_shape_is_centred_on_black():
    picture = np.full((10, 40, 3), 200, np.uint8)
    scale, x, y = placement((40, 10), (20, 20))
    assert (scale, x, y) == (0.5, 0.0, 7.5)
    rows = fitted(picture, (20, 20)).mean(axis=(1, 2))
    assert rows.tolist() == [0.0] * 8 + [200.0] * 5 + [0.0] * 7
    assert fitted(picture, (40, 10)) is picture


def test_interlaced_pictures_become_whole(tmp_path: Path):
    """An edge that moves is a comb where two fields are shown at once."""

    def at(time: int) -> np.ndarray:
        picture = np.full((48, 96, 3), 60, np.uint8)
        picture[:, 8 + 2 * time :] = 180
        return picture

    woven = [np.where(np.arange(48)[:, None, None] % 2 == 0, at(2 * i), at(2 * i + 1)) for i in range(15)]
    clip = tmp_path / "tv.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv444p"
        for picture in woven:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    assert probe_video(clip).interlaced
    frames = list(read_frames(clip))
    assert len(frames) == 15
    for i in range(2, 13):
        assert np.abs(woven[i][1:].astype(int) - woven[i][:-1]).mean() > 2.4
        assert np.abs(frames[i][1:].astype(int) - frames[i][:-1]).mean() < 0.8
        fields = (at(2 * i), at(2 * i + 1))  # The encoder does not say which it takes for the first.
        assert min(np.abs(frames[i].astype(int) - field).mean() for field in fields) < 1.0
