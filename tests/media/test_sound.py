"""Sound in and out: every rate and container, nothing lost at the ends, faults said in a sentence."""

import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from support.paths import MEDIA

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import read_audio, read_sound, write_wav
from ntalker_ns.media.video_reader import read_frames


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_channels(path: Path, channels: list[np.ndarray], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.stack(channels, 1) * 32767).astype("<i2").tobytes())


def write_encoded(
    path: Path, sound: np.ndarray, rate: int, codec: str, video_frames: int = 0, delay: float = 0.0
) -> None:
    """A file whose sound starts `delay` seconds after its picture."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25) if video_frames else None
        audio = container.add_stream(codec, rate=rate, layout="mono")
        if video is not None:
            video.width = video.height = 32
            for _ in range(video_frames):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            container.mux(video.encode(None))
        for start in range(0, len(sound), 1024):
            piece = np.ascontiguousarray(sound[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(piece, "fltp", "mono")
            frame.sample_rate, frame.pts = rate, start + round(delay * rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def test_written_sound_is_read_back(tmp_path: Path):
    sound = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    write_wav(tmp_path / "new" / "a.wav", sound)
    np.testing.assert_allclose(read_audio(tmp_path / "new" / "a.wav"), sound, atol=2 / 32767)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_written_sound_is_as_open_to_others_as_other_files(tmp_path: Path):
    write_wav(tmp_path / "a.wav", np.zeros(9, np.float32))
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.txt"]


@pytest.mark.parametrize("rate", [48000, 44100, 8000])
def test_a_few_samples_are_read_or_said_to_be_none(tmp_path: Path, rate: int):
    write_wav(tmp_path / "a.wav", np.full(10, 0.5, np.float32), rate)
    try:
        assert 1 <= len(read_audio(tmp_path / "a.wav")) <= 10 * 16000 / rate + 1
    except NTalkerError as error:
        assert "is empty" in str(error)


def test_sound_beyond_full_scale_is_clipped_not_wrapped(tmp_path: Path):
    write_wav(tmp_path / "a.wav", np.array([2.0, -2.0, 0.0], np.float32))
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), [1.0, -1.0, 0.0], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_every_rate_keeps_the_length_and_the_tone_to_the_end(tmp_path: Path, rate: int):
    write_wav(tmp_path / "a.wav", tone(1.3, rate), rate)
    sound = read_audio(tmp_path / "a.wav")
    assert abs(len(sound) - 1.3 * 16000) <= 1
    inner = slice(200, len(sound) - 200)
    np.testing.assert_allclose(sound[inner], tone(1.3, 16000)[: len(sound)][inner], atol=0.01)
    assert np.abs(sound[-80:]).max() > 0.3


@pytest.mark.parametrize("count", [2, 6, 8, 16])
def test_channels_are_averaged(tmp_path: Path, count: int):
    write_channels(tmp_path / "a.wav", [tone(0.5, 48000), *[np.zeros(24000, np.float32)] * (count - 1)], 48000)
    sound = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(sound[200:-200], tone(0.5, 16000)[200:-200] / count, atol=0.01)


@pytest.mark.parametrize("name,codec", [("a.mp4", "aac"), ("a.flac", "flac"), ("a.mkv", "aac")])
def test_compressed_sound_is_in_place(tmp_path: Path, name: str, codec: str):
    sound = np.zeros(44100, np.float32)
    sound[22050:22150] = 0.9
    if codec == "flac":
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("flac", rate=44100, layout="mono", format="s16")
            pcm = (sound * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, "s16", "mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    else:
        write_encoded(tmp_path / name, sound, 44100, codec)
    decoded = read_audio(tmp_path / name)
    assert abs(np.abs(decoded).argmax() / 16000 - 22100 / 44100) < 0.004
    assert abs(len(decoded) - 16000) < 16000 * 0.03


def test_sound_that_starts_after_the_picture_keeps_its_place(tmp_path: Path):
    sound = np.zeros(16000, np.float32)
    sound[8000:8040] = 0.9
    write_encoded(tmp_path / "a.mkv", sound, 16000, "aac", video_frames=50, delay=0.4)
    decoded = read_audio(tmp_path / "a.mkv")
    assert abs(np.abs(decoded).argmax() / 16000 - 0.9) < 0.01


def test_the_sound_starts_with_the_first_picture_that_can_be_decoded(tmp_path: Path):
    with av.open(str(tmp_path / "whole.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "20", "sc_threshold": "0"})
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        video.width = video.height = 32
        for k in range(40):
            picture = np.full((32, 32, 3), 255 if k >= 30 else 0, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            sound = np.full((1, 640), 8000 if k >= 30 else 0, np.int16)
            frame = av.AudioFrame.from_ndarray(sound, "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 640 * k
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
    # The key frame at 0 s is cut off, the next one is at 0.8 s.
    with av.open(str(tmp_path / "whole.mkv")) as whole, av.open(str(tmp_path / "cut.mkv"), "w") as cut:
        streams = [cut.add_stream_from_template(stream) for stream in whole.streams]
        for packet in whole.demux():
            if packet.pts is not None and packet.pts * packet.time_base > 0.4:
                packet.stream = streams[packet.stream.index]
                cut.mux(packet)
    white = [float(frame.mean()) > 128 for frame in read_frames(tmp_path / "cut.mkv")].index(True)
    loud = int((np.abs(read_audio(tmp_path / "cut.mkv")) > 0.1).argmax())
    assert white == 10
    assert loud / 16000 == pytest.approx(white / 25, abs=0.002)


@pytest.mark.parametrize("speed", [0.97, 1.03])
def test_sound_whose_time_stamps_drift_keeps_its_place(tmp_path: Path, speed: float):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in range(0, 64000, 320):
            frame = av.AudioFrame.from_ndarray(np.full((1, 320), 8000 * (start >= 60000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16000, round(start * speed)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    loud = int((read_audio(tmp_path / "a.mkv") > 0.1).argmax())
    assert loud / 16000 == pytest.approx(60160 / 16000 * speed, abs=0.045)


def test_damaged_packets_are_silent(tmp_path: Path):
    write_encoded(tmp_path / "whole.mp4", tone(2.0, 16000), 16000, "aac")
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "damaged.mp4"), "w") as damaged:
        stream = damaged.add_stream_from_template(whole.streams[0])
        for packet in whole.demux():
            if packet.pts is None:
                continue
            copy = av.Packet(bytes(range(255, 155, -1)) if 0.8 <= packet.pts / 16000 < 1.2 else bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.stream = packet.time_base, stream
            damaged.mux(copy)
    sound, whole = read_audio(tmp_path / "damaged.mp4"), read_audio(tmp_path / "whole.mp4")
    assert len(sound) == len(whole)
    assert np.abs(sound[15200:17600]).max() < 0.01
    np.testing.assert_allclose(sound[22000:30000], whole[22000:30000], atol=0.01)


def test_holes_are_filled_with_silence(tmp_path: Path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 16000):
            frame = av.AudioFrame.from_ndarray(np.full((1, 800), 8000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_audio(tmp_path / "a.mkv")
    assert len(sound) == pytest.approx(16800, abs=32)
    assert np.abs(sound[1000:15800]).max() == 0.0
    assert sound[16200] > 0.2


def test_names_that_are_not_utf8_are_nothing_to_stop_at(tmp_path: Path):
    write_wav(tmp_path / "a.wav", tone(0.2, 16000))
    artist = b"INFOIART" + struct.pack("<I", 4) + "José".encode("latin-1")
    tagged = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", len(artist)) + artist
    (tmp_path / "b.wav").write_bytes(tagged[:4] + struct.pack("<I", len(tagged) - 8) + tagged[8:])
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), read_audio(tmp_path / "a.wav"))


def test_a_colon_in_a_name_makes_no_protocol_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_wav(Path("2026-11-26T18:30.wav"), tone(0.2, 16000))
    assert len(read_audio(Path("2026-11-26T18:30.wav"))) == 3200


def test_faults_are_one_sentence(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no audio file"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(NTalkerError, match="cannot be decoded"):
        read_audio(tmp_path / "text.wav")
    write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32))
    with pytest.raises(NTalkerError, match="empty"):
        read_audio(tmp_path / "empty.wav")
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(NTalkerError, match="no audio track"):
        read_audio(tmp_path / "mute.mp4")


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the real clips (../shared/media) are not here")
@pytest.mark.parametrize(
    "name,seconds", [("portrait-20s.mp4", 20.0), ("hdtf-katiehill.mp4", 8.0), ("driving-zh-48k.wav", 8.0)]
)
def test_real_clips_have_their_length(name: str, seconds: float):
    assert len(read_audio(MEDIA / name)) == pytest.approx(seconds * 16000, abs=2)


def test_a_length_that_was_estimated_cuts_nothing(tmp_path: Path):
    """A text-to-speech server's file says nothing of its length, and its rate changes."""
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 4 * 16000).astype(np.float32)
    path = tmp_path / "a.aac"
    write_encoded(path, np.concatenate([noise, np.zeros_like(noise)]), 16000, "aac")
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) < 7.5  # type: ignore[operator]
    assert len(read_audio(path)) == pytest.approx(8 * 16000, abs=3 * 1024)


@pytest.mark.parametrize(("name", "codec"), [("a.ogg", "libopus"), ("a.mp3", "libmp3lame"), ("a.ts", "aac")])
def test_joined_pieces_follow_each_other(tmp_path: Path, name: str, codec: str):
    """Voice messages and answers of a server, joined byte by byte."""
    pieces = []
    for i, hertz in enumerate((300.0, 600.0, 900.0)):
        write_encoded(tmp_path / f"{i}{name}", tone(1.0 + 0.5 * i, 48000, hertz), 48000, codec)
        pieces.append((tmp_path / f"{i}{name}").read_bytes())
    (tmp_path / name).write_bytes(b"".join(pieces))
    sound = read_audio(tmp_path / name)
    assert len(sound) / 16000 == pytest.approx(4.5, abs=0.2)
    for start, hertz in ((0.3, 300.0), (1.5, 600.0), (3.2, 900.0)):
        part = sound[round(start * 16000) :][:8000]
        assert np.abs(np.fft.rfft(part)).argmax() * 2 == pytest.approx(hertz, abs=4)


def write_tracks(path: Path, sounds: list[np.ndarray], default: int) -> None:
    """A file of several sound tracks, one of them marked as default."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("flac", rate=16000, layout="mono") for _ in sounds]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for stream, sound in zip(streams, sounds, strict=True):
            samples = np.ascontiguousarray((sound[None] * 32767).astype(np.int16))
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def test_of_several_tracks_the_default_one_that_is_not_silent_is_read(tmp_path: Path):
    """A screen recording has the computer's sound beside the microphone's."""
    low, high, silence = tone(1.0, 16000, 300.0), tone(1.0, 16000, 600.0), np.zeros(16000, np.float32)
    write_tracks(tmp_path / "a.mkv", [low, high], default=1)
    write_tracks(tmp_path / "b.mkv", [low, silence, high], default=1)
    assert (read_sound(tmp_path / "a.mkv").track, read_sound(tmp_path / "a.mkv").tracks) == (2, 2)
    np.testing.assert_allclose(read_audio(tmp_path / "a.mkv"), high, atol=1e-3)
    np.testing.assert_allclose(read_audio(tmp_path / "b.mkv"), low, atol=1e-3)
    np.testing.assert_allclose(read_sound(tmp_path / "b.mkv", track=3).waveform(), high, atol=1e-3)
    with pytest.raises(NTalkerError, match="has 3 sound tracks: there is no track 4"):
        read_sound(tmp_path / "b.mkv", track=4)
