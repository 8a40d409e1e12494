"""Sound files in and out: any container and rate becomes mono at the rate asked for."""

import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.clock import SAMPLE_RATE
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.decode import decode, open_media, picture_stream

GAP = 0.04
"""Seconds by which sound may be early or late before it is moved to its place."""


def read_audio(path: Path, sample_rate: int = SAMPLE_RATE) -> Float32[np.ndarray, " samples"]:
    """Decodes the sound of any audio or video file.

    Channels are averaged. Where the file has a picture too, the sound starts when the first picture does:
    silence fills what is missing, and what comes earlier is cut. Holes in the sound, and what of it is damaged, are
    filled with silence.

    Args:
        path: a file that FFmpeg can decode.
        sample_rate: samples per second of the result.

    Returns:
        The waveform, mono, roughly in [-1, 1].

    Raises:
        NTalkerError: the file is missing, cannot be decoded, or has no sound in it.
    """
    from av.error import FFmpegError

    path = Path(path)
    begin = _first_picture(path)
    with open_media(path, "audio") as container:
        if not container.streams.audio:
            raise NTalkerError(f"'{path}' has no audio track; give a file with sound in it.")
        try:
            pieces = list(_placed_pieces(container, begin, sample_rate))
        except FFmpegError as error:
            raise NTalkerError(f"'{path}' cannot be decoded as audio ({error.strerror}).") from error
    waveform = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if waveform.size == 0:
        raise NTalkerError(f"The audio track of '{path}' is empty, or nothing of it can be decoded.")
    if not np.isfinite(waveform).all():
        raise NTalkerError(f"The audio track of '{path}' holds values that are not numbers; export it again.")
    return waveform.astype(np.float32, copy=False)


def _first_picture(path: Path) -> float | None:
    """When the first picture that can be decoded is shown, in seconds; None for sound alone.

    A file cut between key frames has packets before it, and its sound starts with those.
    """
    with open_media(path, "audio") as container:
        stream = picture_stream(container)
        frame = next(decode(container, stream), None) if stream is not None else None
        return frame.time if frame is not None else None


def _placed_pieces(container: Any, begin: float | None, sample_rate: int) -> Iterator[np.ndarray]:
    """The sound of a container in order, each stretch of it at its place in time after `begin` (seconds)."""
    stream = container.streams.audio[0]
    end = None
    if stream.duration and stream.start_time is not None:
        end = float((stream.start_time + stream.duration) * stream.time_base) - (begin or 0.0)
    written = 0
    for start, samples in _stretches(container, stream, sample_rate):
        begin = start if begin is None else begin
        place = round((start - begin) * sample_rate)
        if place > written:
            yield np.zeros(place - written, np.float32)
            written = place
        piece = samples[max(0, written - place) :]
        if end is not None:
            # The last packet of a compressed track is padded; the track says where the sound really ends.
            piece = piece[: max(0, round(end * sample_rate) - written)]
        yield piece
        written += len(piece)


def _stretches(container: Any, stream: Any, sample_rate: int) -> Iterator[tuple[float, np.ndarray]]:
    """Unbroken stretches of sound: (start in seconds, mono samples)."""
    resampler, key, start, count, parts = None, None, 0.0, 0, []
    for frame in decode(container, stream):
        # Counted from the start of the stretch: from packet to packet, a recorder's clock drifts by too little to see.
        expected = start + count / frame.sample_rate
        time = frame.time if frame.time is not None else expected
        if resampler is None or abs(time - expected) > GAP or key != _sound_format(frame):
            if resampler is not None:
                yield start, _joined([*parts, *_mono(resampler.resample(None))])
            key, start, count, parts = _sound_format(frame), time, 0, []
            resampler = _resampler(frame, sample_rate)
        parts += _mono(resampler.resample(frame))
        count += frame.samples
    if resampler is not None:
        yield start, _joined([*parts, *_mono(resampler.resample(None))])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Of a few samples, a resampler makes none."""
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _sound_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampler(frame: Any, sample_rate: int) -> Any:
    import av

    # The layout stays as it is: FFmpeg's own mixing to mono of float sound may exceed full scale.
    return av.AudioResampler(format="flt", layout=frame.layout, rate=sample_rate)


def _mono(frames: list[Any]) -> list[np.ndarray]:
    """Packed frames with their channels averaged: PyAV cannot read planar ones of eight channels or more."""
    packed = ((frame.to_ndarray(), frame.layout.nb_channels) for frame in frames if frame is not None)
    return [samples.reshape(-1, channels).mean(axis=1, dtype=np.float32) for samples, channels in packed]


def write_wav(path: Path, waveform: Float32[np.ndarray, " samples"], sample_rate: int = SAMPLE_RATE) -> None:
    """Writes a mono 16-bit PCM wav, atomically; values beyond [-1, 1] are clipped.

    Args:
        path: where to; its folder is made.
        waveform: the sound in [-1, 1].
        sample_rate: samples per second.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file, wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(sample_rate)
            wav.writeframes(pcm.tobytes())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
