"""Frames and a sound become one mp4, without the ffmpeg program."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ntalker_ns.audio.io import read_audio
from ntalker_ns.errors import NTalkerError

SOUND_RATE = 48000
"""Samples per second of the sound track."""

SOUND_BITS = 128_000
"""Bits per second of the sound track."""

BT709 = 1
"""FFmpeg's number for BT.709 matrix, primaries and transfer: without the tag, players guess by picture size."""


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    fps: float = 25.0,
    audio: Path | None = None,
    crf: int = 18,
) -> int:
    """Writes an mp4 (H.264, yuv420p; AAC mono at 48 kHz) in one piece: it is there whole or not at all.

    Frame i is shown from i / fps seconds; the sound starts with the first frame. Sound that goes on for more than a
    frame after the last picture is cut there; where it ends earlier, the pictures go on in silence. H.264 with
    yuv420p has even sides only: a picture of odd width or height gets its last column or row twice.

    Args:
        path: where to; its folder is made.
        frames: RGB pictures, all of one size; made while they are written.
        fps: pictures per second.
        audio: a file with the sound, of any container and rate; None for none.
        crf: constant rate factor: 0 (lossless) to 51; 18 shows no loss.

    Returns:
        The number of frames written.

    Raises:
        NTalkerError: there is no frame, their sizes differ, the sound cannot be read, or there is no H.264 encoder.
    """
    import av

    path = Path(path)
    sound = None if audio is None else read_audio(audio, SOUND_RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            count = _encode(container, iter(frames), Fraction(fps).limit_denominator(1001), sound, crf)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _encode(container: Any, frames: Iterator[np.ndarray], fps: Fraction, sound: np.ndarray | None, crf: int) -> int:
    """Everything between opening and closing the file; sound is encoded just ahead of the pictures."""
    first = next(frames, None)
    if first is None:
        raise NTalkerError("There is no frame to write into the video.")
    video = _video_stream(container, first, fps, crf)
    track = None if sound is None else _SoundTrack(container, sound)
    count = 0
    for count, picture in enumerate(_chain(first, frames), start=1):
        if picture.shape != first.shape:
            raise NTalkerError(
                f"Frame {count - 1} of the video has shape {picture.shape}, the first one {first.shape}: "
                "all frames of a video need one size."
            )
        if track is not None:
            track.encode_until(round(SOUND_RATE * count / fps))
        container.mux(video.encode(_video_frame(picture, count - 1)))
    container.mux(video.encode(None))
    if track is not None:
        track.finish(round(SOUND_RATE * (count + 1) / fps))
    return count


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _video_stream(container: Any, picture: np.ndarray, fps: Fraction, crf: int) -> Any:
    from av.codec.codec import UnknownCodecError

    try:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "medium"})
    except UnknownCodecError as error:
        raise NTalkerError("This PyAV has no H.264 encoder (libx264): install av from the package index.") from error
    height, width = picture.shape[:2]
    stream.height, stream.width = height + height % 2, width + width % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = 1
    return stream


def _video_frame(picture: np.ndarray, index: int) -> Any:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame.pts = index
    return frame


class _SoundTrack:
    """An AAC stream that is filled step by step."""

    def __init__(self, container: Any, sound: Float32[np.ndarray, " samples"]) -> None:
        self.container = container
        self.sound = sound
        self.stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        self.stream.bit_rate = SOUND_BITS
        self.written = 0

    def encode_until(self, sample: int) -> None:
        """Encodes up to a sample, in the whole packets' worth that AAC takes."""
        import av

        size = self.stream.codec_context.frame_size or 1024
        stop = min(sample, len(self.sound))
        while self.written < stop:
            # Only the very last packet may be short.
            piece = self.sound[None, self.written : min(self.written + size, len(self.sound))]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SOUND_RATE, self.written
            self.container.mux(self.stream.encode(frame))
            self.written += piece.shape[1]

    def finish(self, sample: int) -> None:
        """Encodes the rest up to a sample and closes the stream."""
        self.sound = self.sound[: max(sample, self.written)]
        self.encode_until(len(self.sound))
        self.container.mux(self.stream.encode(None))
