"""Frames and a sound become one video or a folder of pictures, without the ffmpeg program."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.output_paths import check_file, check_folder, written_whole
from ntalker_ns.media.sound import Sound, write_wav

SOUND_RATE = 48000
"""Samples per second of the sound track."""

SOUND_BITS = 128_000
"""Bits per second of the sound track."""

BT709 = 1
"""FFmpeg's number for BT.709 matrix, primaries and transfer: without the tag, players guess by picture size."""


PICTURE_NAME = "{:05d}.png"
"""Names of the pictures in a folder."""

SOUND_NAME = "audio.wav"
"""The sound beside them."""


@dataclass(frozen=True)
class VideoFormat:
    """A container and what is in it."""

    container: str
    video: str
    """Encoder."""
    video_name: str
    """What people call it."""
    options: dict[str, str]
    sound: str
    """Encoder."""
    sample_format: str
    """What the sound encoder takes."""
    keeps_alpha: bool


FORMATS = {
    ".mp4": VideoFormat("mp4", "libx264", "H.264", {"preset": "medium"}, "aac", "fltp", keeps_alpha=False),
    ".webm": VideoFormat(
        "webm",
        "libvpx-vp9",
        "VP9",
        # Alternate reference frames and alpha exclude each other in libvpx.
        {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"},
        "libopus",
        "flt",
        keeps_alpha=True,
    ),
}
"""By the ending of the file."""


def check_output(path: Path, alpha: bool = False, read: Iterable[Path | None] = ()) -> None:
    """Checks that frames can be written to a path: a video by its ending, or a folder of pictures.

    Args:
        path: with the ending of a video, or with none for a folder.
        alpha: whether the frames have transparency to keep.
        read: files that the frames and their sound are made from.

    Raises:
        NTalkerError: they cannot.
    """
    suffix = path.suffix.lower()
    if suffix and suffix not in FORMATS:
        raise NTalkerError(f"--output {path} must end in {' or '.join(FORMATS)}, or name a folder for PNG pictures.")
    if suffix and alpha and not FORMATS[suffix].keeps_alpha:
        raise NTalkerError(
            f"--output {path} cannot be transparent: {FORMATS[suffix].video_name} keeps no alpha. "
            "Let it end in .webm (VP9), or name a folder for PNG pictures."
        )
    if suffix:
        return check_file(path, "--output", read)
    check_folder(path, "--output")
    if path.is_dir() and any(path.iterdir()):
        raise NTalkerError(f"The folder {path} for PNG pictures is not empty: name another one.")


def write_frames(
    path: Path, frames: Iterable[UInt8[np.ndarray, "h w channels"]], fps: float = 25.0, sound: Sound | None = None
) -> int:
    """Writes frames as a video or, where the path has no ending, as a folder of PNG pictures; see `write_video`.

    Returns:
        The number of frames written.

    Raises:
        NTalkerError: as `check_output` and `write_video`.
    """
    check_output(path)
    return write_video(path, frames, fps, sound) if path.suffix else write_pictures(path, frames, fps, sound)


def write_pictures(
    folder: Path, frames: Iterable[UInt8[np.ndarray, "h w channels"]], fps: float = 25.0, sound: Sound | None = None
) -> int:
    """Writes frames as numbered PNG pictures, RGB or RGBA with straight alpha, with the sound as audio.wav beside them.

    Args:
        folder: where to; it appears when it is complete.
        frames: of one size.
        fps: pictures per second.
        sound: cut to the length of the pictures; None for none.

    Returns:
        The number of frames written.

    Raises:
        NTalkerError: there is no frame.
    """
    import cv2

    waveform = None if sound is None else sound.waveform(SOUND_RATE)
    count = 0
    with written_whole(folder) as partial:
        partial.mkdir()
        for count, picture in enumerate(frames, start=1):
            order = [2, 1, 0, 3][: picture.shape[2]]
            cv2.imwrite(str(partial / PICTURE_NAME.format(count - 1)), picture[..., order])
        if count == 0:
            raise NTalkerError("There is no frame to write.")
        if waveform is not None:
            write_wav(partial / SOUND_NAME, waveform[: round(SOUND_RATE * count / fps)], SOUND_RATE)
        if folder.is_dir():
            folder.rmdir()
    return count


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w channels"]],
    fps: float = 25.0,
    sound: Sound | None = None,
    crf: int = 18,
) -> int:
    """Writes a video in one piece: it is there whole or not at all.

    By its ending it is an mp4 (H.264, yuv420p; AAC) or a webm (VP9, yuv420p or with alpha yuva420p; Opus), both with
    one channel of sound at 48 kHz.

    Frame i is shown from i / fps seconds; the sound starts with the first frame. Sound that goes on for more than a
    frame after the last picture is cut there; where it ends earlier, the pictures go on in silence. The formats
    have even sides only: a picture of odd width or height gets its last column or row twice.

    Args:
        path: where to; its folder is made.
        frames: RGB pictures or, for webm, RGBA pictures with straight alpha, all of one size; made while they are
            written.
        fps: pictures per second.
        sound: None for none.
        crf: constant rate factor: 0 (lossless) to 51; 18 shows no loss.

    Returns:
        The number of frames written.

    Raises:
        NTalkerError: there is no frame, their sizes differ, frames have alpha and the format
            keeps none, or there is no encoder.
    """
    import av

    path = Path(path)
    form = FORMATS[path.suffix.lower()]
    waveform = None if sound is None else sound.waveform(SOUND_RATE)
    options = {"movflags": "+faststart"} if form.container == "mp4" else {}
    with written_whole(path) as partial, av.open(str(partial), "w", form.container, options=options) as container:
        return _encode(container, form, iter(frames), Fraction(fps).limit_denominator(1001), waveform, crf)


def _encode(
    container: Any, form: VideoFormat, frames: Iterator[np.ndarray], fps: Fraction, sound: np.ndarray | None, crf: int
) -> int:
    """Everything between opening and closing the file; sound is encoded just ahead of the pictures."""
    first = next(frames, None)
    if first is None:
        raise NTalkerError("There is no frame to write into the video.")
    if first.shape[2] == 4 and not form.keeps_alpha:
        raise NTalkerError(f"{form.video_name} keeps no alpha: write a .webm or PNG pictures.")
    video = _video_stream(container, form, first, fps, crf)
    track = None if sound is None else _SoundTrack(container, form, sound)
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


def _video_stream(container: Any, form: VideoFormat, picture: np.ndarray, fps: Fraction, crf: int) -> Any:
    from av.codec.codec import UnknownCodecError

    try:
        stream = container.add_stream(form.video, rate=fps, options={"crf": str(crf), **form.options})
    except UnknownCodecError as error:
        raise NTalkerError(
            f"This PyAV has no {form.video_name} encoder ({form.video}): install av from the package index."
        ) from error
    height, width = picture.shape[:2]
    stream.height, stream.width = height + height % 2, width + width % 2
    stream.pix_fmt = _pixel_format(picture)
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = 1
    return stream


def _pixel_format(picture: np.ndarray) -> str:
    return "yuva420p" if picture.shape[2] == 4 else "yuv420p"


def _video_frame(picture: np.ndarray, index: int) -> Any:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    given = "rgba" if picture.shape[2] == 4 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format=given).reformat(
        format=_pixel_format(picture), dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame.pts = index
    return frame


class _SoundTrack:
    """A stream of sound that is filled step by step."""

    def __init__(self, container: Any, form: VideoFormat, sound: Float32[np.ndarray, " samples"]) -> None:
        self.container = container
        self.sound = sound
        self.sample_format = form.sample_format
        self.stream = container.add_stream(form.sound, rate=SOUND_RATE, layout="mono")
        self.stream.bit_rate = SOUND_BITS
        self.written = 0

    def encode_until(self, sample: int) -> None:
        """Encodes up to a sample, in the whole packets' worth that the encoder takes."""
        import av

        size = self.stream.codec_context.frame_size or 1024
        stop = min(sample, len(self.sound))
        while self.written < stop:
            # Only the very last packet may be short.
            piece = self.sound[None, self.written : min(self.written + size, len(self.sound))]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=self.sample_format, layout="mono")
            frame.sample_rate, frame.pts = SOUND_RATE, self.written
            self.container.mux(self.stream.encode(frame))
            self.written += piece.shape[1]

    def finish(self, sample: int) -> None:
        """Encodes the rest up to a sample and closes the stream."""
        self.sound = self.sound[: max(sample, self.written)]
        self.encode_until(len(self.sound))
        self.container.mux(self.stream.encode(None))
