"""Frames of a video file at a steady rate, whatever the file's own rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.decode import decode, open_media, picture_stream

FPS = 25
"""Frame rate of every data set, in Hz: the rate that audio features are windowed at."""
SQUARE = 0.01
"""Share by which a pixel's sides may differ: nobody sees it, and resampling for it would blur."""
HD_LINES = 720
"""Height in px from which on players, browsers among them, take untagged colours for BT.709."""
UNSPECIFIED, BT709 = 2, 1
"""FFmpeg's numbers of colour matrices."""
PQ, HLG = 16, 18
"""FFmpeg's numbers of the transfer functions of high dynamic range."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says of its picture and sound."""

    path: Path
    width: int
    """Width in px of the frames of `read_frames`: upright, of square pixels."""
    height: int
    fps: float
    """The file's own average rate in Hz."""
    frames: int
    """Frames at `FPS` that the file is expected to give (exact only once it is decoded)."""
    has_audio: bool


def probe_video(path: Path) -> VideoInfo:
    """Reads a clip's size, rate and length without decoding all of it.

    Args:
        path: the video file.

    Returns:
        What the container and the first frame say.

    Raises:
        NTalkerError: the file is missing, is no video, or holds no frame that decodes.
    """
    with open_media(path, "video") as container:
        stream = _picture_stream(container, path)
        first = next(decode(container, stream), None)
        if first is None:
            raise NTalkerError(f"{path} holds a video track but no frame of it can be decoded; re-encode the clip.")
        width, height = _square_pixels(first, stream)
        if _is_transposed(_display_matrix(first)):
            width, height = height, width
        fps = float(stream.average_rate or stream.guessed_rate or FPS)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            frames=max(1, round(_duration(container, stream, fps, first) * FPS)),
            has_audio=len(container.streams.audio) > 0,
        )


def read_frames(path: Path, fps: float = FPS) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Decodes a clip once, from start to end, resampled in time to a steady rate.

    Output frame i is the source frame nearest to i / fps seconds after the first one, so variable frame rates
    keep their timing and nothing drifts against the sound. Frames that are damaged are left out: the ones beside them
    are shown for longer.

    The frames are what a player shows: turned and mirrored as the file says, stretched to square pixels, and in sRGB.
    A high dynamic range (HLG, PQ) is cut at its reference white.

    Args:
        path: the video file.
        fps: output rate in Hz.

    Yields:
        RGB frames, upright, of square pixels.

    Raises:
        NTalkerError: the file is missing, is no video, or cannot be read to its end.
    """
    from av.video.reformatter import VideoReformatter

    # One for all frames: a frame's own sets up its tables of colours anew.
    reformatter = VideoReformatter()
    with open_media(path, "video") as container:
        stream = _picture_stream(container, path)
        for frame in _resample(decode(container, stream), fps):
            yield _upright(_srgb(frame, stream, reformatter), _display_matrix(frame))


def _picture_stream(container: Any, path: Path) -> Any:
    stream = picture_stream(container)
    if stream is None:
        raise NTalkerError(f"{path} has no video track; give a clip that shows the speaker.")
    stream.thread_type = "AUTO"
    return stream


def _duration(container: Any, stream: Any, fps: float, first: Any) -> float:
    """Length in seconds; `first` is the frame that is decoded already."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if stream.frames:
        return stream.frames / fps
    if container.duration:
        return container.duration / 1e6
    # A browser writes its recordings without knowing how long they will be: their packets say.
    stamps = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None]
    return max(stamps, default=0.0) - (first.time or 0.0) + 1.0 / fps


def _resample(frames: Iterator[Any], fps: float) -> Iterator[Any]:
    """Picks, for each output time, the nearest frame in time; frames without a time stamp follow at `fps`."""
    start: float | None = None
    previous: tuple[float, Any] | None = None
    step = 1.0 / fps
    index = 0
    for frame in frames:
        if frame.time is None:
            now = previous[0] + step if previous else 0.0
        else:
            start = frame.time if start is None else start
            now = frame.time - start
        if previous is not None:
            step = max(now - previous[0], 1e-3)
            middle = 0.5 * (previous[0] + now)
            while index / fps < middle - 1e-6:
                yield previous[1]
                index += 1
        previous = (now, frame)
    if previous is not None:
        while index / fps < previous[0] + 0.5 * step - 1e-6:
            yield previous[1]
            index += 1


def _srgb(frame: Any, stream: Any, reformatter: Any) -> UInt8[np.ndarray, "h w 3"]:
    """A frame's picture as it is stored, but in sRGB and of square pixels."""
    width, height = _square_pixels(frame, stream)
    matrix = BT709 if _is_untagged_hd(frame) else None
    transfer = stream.codec_context.color_trc
    if transfer not in (PQ, HLG):
        return reformatter.reformat(frame, width, height, "rgb24", src_colorspace=matrix).to_ndarray()
    from ntalker_ns.media.hdr import hlg_to_srgb, pq_to_srgb

    coded = reformatter.reformat(frame, width, height, "rgb48le").to_ndarray()
    return pq_to_srgb(coded) if transfer == PQ else hlg_to_srgb(coded)


def _is_untagged_hd(frame: Any) -> bool:
    """Whether players take the colour matrix for BT.709; FFmpeg takes it for BT.601 wherever a file says nothing."""
    return frame.colorspace == UNSPECIFIED and frame.height >= HD_LINES and not frame.format.is_rgb


def _square_pixels(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height of a stored picture once its pixels are square; it only grows, so nothing is lost."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if abs(math.log(aspect)) < SQUARE:
        return frame.width, frame.height
    return round(frame.width * max(1.0, aspect)), round(frame.height * max(1.0, 1.0 / aspect))


Matrix = tuple[float, float, float, float]
"""(a, b, c, d): the stored pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift and a scale."""


def _display_matrix(frame: Any) -> Matrix:
    """How a stored picture is to be turned and mirrored (phones write that beside it)."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # Beside it is data of a kind that this PyAV has no name for. What it says of the rotation can be read.
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if stored is None:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(stored, np.int32)[:5].tolist()
    return a, b, c, d


def _is_transposed(matrix: Matrix) -> bool:
    """Whether it turns by a quarter, so that rows become columns."""
    return abs(matrix[1]) > abs(matrix[0])


def _upright(image: UInt8[np.ndarray, "h w 3"], matrix: Matrix) -> UInt8[np.ndarray, "rows columns 3"]:
    a, b, c, d = matrix
    if _is_transposed(matrix):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
