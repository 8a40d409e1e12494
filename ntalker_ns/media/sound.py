"""Sound files in and out: any container, rate and number of channels becomes mono at a requested rate."""

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.decode import decode, open_media, picture_stream
from ntalker_ns.media.output_paths import written_whole
from ntalker_ns.media.timeline import placed_frames

SAMPLE_RATE = 16000
"""Samples per second of every waveform inside the project."""

GAP = 0.04
"""Deviation in seconds of a time stamp from the sound before it up to which the sound is taken as continuous."""

PADDING = 2
"""Packets at the end of a track that may be padding. Where more is decoded than the file says there is, its length was
estimated (an mp3 of a varying bit rate, a stream, joined files), and all of it is sound."""

SILENT = 1e-3
"""Peak of a track, of full scale, up to which it is silent: -60 dB."""

PIECE = 1 << 20
"""Samples that are resampled at a time."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Continuous sound, mono."""

    start: float
    """Seconds."""
    rate: int
    """Samples per second."""
    samples: Float32[np.ndarray, " samples"]

    @property
    def end(self) -> float:
        """Seconds."""
        return self.start + len(self.samples) / self.rate


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a file, decoded once; `waveform` gives it at any rate."""

    name: str
    """For messages."""
    stretches: tuple[Stretch, ...]
    """In order of time."""
    begin: float = 0.0
    """When the waveform starts, seconds; what comes earlier is cut."""
    end: float | None = None
    """When the track ends, seconds; None where the file does not state it."""
    track: int = 1
    """Which of the file's sound tracks it is, from 1."""
    tracks: int = 1
    """How many the file has."""

    @classmethod
    def of_waveform(cls, waveform: Float32[np.ndarray, " samples"], sample_rate: int = SAMPLE_RATE) -> "Sound":
        """A mono waveform as a sound."""
        return cls("the waveform", (Stretch(0.0, sample_rate, waveform),))

    def waveform(self, sample_rate: int = SAMPLE_RATE) -> Float32[np.ndarray, " samples"]:
        """The sound resampled, roughly in [-1, 1]; holes are filled with silence.

        Raises:
            NTalkerError: nothing of it comes after `begin`.
        """
        pieces = list(self._placed_pieces(sample_rate))
        waveform = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        if waveform.size == 0:
            raise NTalkerError(f"The audio track of '{self.name}' is empty, or nothing of it can be decoded.")
        return waveform.astype(np.float32, copy=False)

    def _placed_pieces(self, sample_rate: int) -> Iterator[np.ndarray]:
        """Resampled stretches, with the silence between them."""
        written = 0
        for stretch in self.stretches:
            start = round((stretch.start - self.begin) * sample_rate)
            if start > written:
                yield np.zeros(start - written, np.float32)
                written = start
            piece = _resampled(stretch, sample_rate)[max(0, written - start) :]
            if self.end is not None:
                # The last packet of a compressed track is padded; the track states where the sound really ends.
                piece = piece[: max(0, round((self.end - self.begin) * sample_rate) - written)]
            yield piece
            written += len(piece)


def read_sound(path: Path, track: int | None = None) -> Sound:
    """Decodes the sound of any audio or video file; channels are averaged.

    Where the file has a picture too, the sound starts with the first picture: silence fills what is missing, and what
    comes earlier is cut. Holes in the sound and damaged packets become silence.

    Args:
        path: a file that FFmpeg can decode.
        track: which of its sound tracks, from 1; None: the default one or, if that is silent throughout, the first that
            is not.

    Raises:
        NTalkerError: the file is missing, cannot be decoded, or has no sound or no such track.
    """
    path = Path(path)
    order, tracks = _track_order(path, track)
    first = None
    for number in order:
        sound = replace(_read_track(path, number), track=number, tracks=tracks)
        if any(np.abs(stretch.samples).max(initial=0.0) > SILENT for stretch in sound.stretches):
            return sound
        first = first or sound
    assert first is not None
    return first


def _track_order(path: Path, track: int | None) -> tuple[list[int], int]:
    """The tracks to look at, from 1, and how many there are."""
    from av.stream import Disposition

    with open_media(path, "audio") as container:
        streams = container.streams.audio
        if not streams:
            raise NTalkerError(f"'{path}' has no audio track; give a file with sound in it.")
        if track is not None and not 1 <= track <= len(streams):
            raise NTalkerError(
                f"'{path}' has {len(streams)} sound tracks: there is no track {track}; check --audio-track."
            )
        default = [number for number, one in enumerate(streams, 1) if one.disposition & Disposition.default]
        everything = list(range(1, len(streams) + 1))
        return [track] if track is not None else list(dict.fromkeys(default[:1] + everything)), len(streams)


def _read_track(path: Path, track: int) -> Sound:
    from av.error import FFmpegError

    picture = _first_picture(path)
    with open_media(path, "audio") as container:
        stream = container.streams.audio[track - 1]
        end = None
        if stream.duration and stream.start_time is not None:
            end = float((stream.start_time + stream.duration) * stream.time_base)
        packet = float(stream.codec_context.frame_size or 0) / (stream.codec_context.sample_rate or SAMPLE_RATE)
        try:
            stretches = tuple(_stretches(placed_frames(path, container, stream)))
        except FFmpegError as error:
            raise NTalkerError(f"'{path}' cannot be decoded as audio ({error.strerror}).") from error
    if end is not None and stretches and stretches[-1].end > end + PADDING * packet:
        end = None
    if not any(stretch.samples.size for stretch in stretches):
        raise NTalkerError(f"The audio track of '{path}' is empty, or nothing of it can be decoded.")
    if not all(np.isfinite(stretch.samples).all() for stretch in stretches):
        raise NTalkerError(f"The audio track of '{path}' holds values that are not numbers; export it again.")
    begin = stretches[0].start if picture is None else picture
    return Sound(str(path), stretches, begin, None if end is None else end + (begin if picture is None else 0.0))


def read_audio(path: Path, sample_rate: int = SAMPLE_RATE) -> Float32[np.ndarray, " samples"]:
    """The waveform of an audio or video file, mono; see `read_sound` and `Sound.waveform`."""
    return read_sound(path).waveform(sample_rate)


def _first_picture(path: Path) -> float | None:
    """When the first picture that can be decoded is shown, in seconds; None for sound alone.

    A file cut between key frames has packets before it, and its sound starts with those.
    """
    with open_media(path, "audio") as container:
        stream = picture_stream(container)
        frame = next(decode(container, stream), None) if stream is not None else None
        return frame.time if frame is not None else None


def _stretches(frames: Iterator[tuple[float | None, Any]]) -> Iterator[Stretch]:
    """Continuous stretches of sound, of frames and their times."""
    converter, key, start, count, parts = None, None, 0.0, 0, []
    for placed, frame in frames:
        # Counted from the start of the stretch: from packet to packet, a recorder's clock drifts by too little to see.
        expected = start + count / frame.sample_rate
        time = placed if placed is not None else expected
        if converter is None or abs(time - expected) > GAP or key != _sound_format(frame):
            if converter is not None and key is not None:
                yield Stretch(start, key[2], _joined([*parts, *_mono(converter.resample(None))]))
            key, start, count, parts = _sound_format(frame), time, 0, []
            converter = _resampler(frame.layout, frame.sample_rate)
        parts += _mono(converter.resample(frame))
        count += frame.samples
    if converter is not None and key is not None:
        yield Stretch(start, key[2], _joined([*parts, *_mono(converter.resample(None))]))


def _resampled(stretch: Stretch, sample_rate: int) -> np.ndarray:
    """The samples of a stretch at another rate."""
    import av

    if stretch.rate == sample_rate:
        return stretch.samples
    resampler, parts = _resampler("mono", sample_rate), []
    for first in range(0, len(stretch.samples), PIECE):
        piece = np.ascontiguousarray(stretch.samples[None, first : first + PIECE])
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate, frame.pts = stretch.rate, first
        parts += _mono(resampler.resample(frame))
    return _joined([*parts, *_mono(resampler.resample(None))])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Of a few samples, a resampler makes none."""
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _sound_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampler(layout: Any, sample_rate: int) -> Any:
    import av

    # The layout stays as it is: FFmpeg's own mixing to mono of float sound may exceed full scale.
    return av.AudioResampler(format="flt", layout=layout, rate=sample_rate)


def _mono(frames: list[Any]) -> list[np.ndarray]:
    """Packed frames with their channels averaged: PyAV cannot read planar ones of eight channels or more."""
    packed = ((frame.to_ndarray(), frame.layout.nb_channels) for frame in frames if frame is not None)
    return [samples.reshape(-1, channels).mean(axis=1, dtype=np.float32) for samples, channels in packed]


def from_pcm16(samples: bytes) -> Float32[np.ndarray, " samples"]:
    """16-bit little-endian samples in [-1, 1]; an odd byte at the end is left out."""
    return np.frombuffer(samples[: len(samples) // 2 * 2], "<i2").astype(np.float32) / 32768.0


def to_pcm16(waveform: Float32[np.ndarray, " samples"]) -> bytes:
    """16-bit little-endian samples; values beyond [-1, 1] are clipped."""
    return np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def wav_bytes(waveform: Float32[np.ndarray, " samples"], sample_rate: int = SAMPLE_RATE) -> bytes:
    """The content of a mono 16-bit PCM wav file; values beyond [-1, 1] are clipped."""
    content = io.BytesIO()
    with wave.open(content, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(sample_rate)
        wav.writeframes(to_pcm16(waveform))
    return content.getvalue()


def write_wav(path: Path, waveform: Float32[np.ndarray, " samples"], sample_rate: int = SAMPLE_RATE) -> None:
    """Writes a mono 16-bit PCM wav, atomically; values beyond [-1, 1] are clipped.

    Args:
        path: where to; its folder is made.
        waveform: the sound in [-1, 1].
        sample_rate: samples per second.
    """
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_bytes(wav_bytes(waveform, sample_rate))
