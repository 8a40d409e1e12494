"""Frames of a video file at a constant rate, independent of the file's own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.decode import decode, open_media, picture_stream
from ntalker_ns.media.interlaced import progressive
from ntalker_ns.media.timeline import placed_frames

FPS = 25
"""Frame rate of every data set, in Hz: the rate that audio features are windowed at."""
SQUARE = 0.01
"""Largest |log aspect ratio| of pixels that count as square: the distortion is invisible, and resampling blurs."""
HD_LINES = 720
"""Height in px from which video players, browsers included, decode untagged colours as BT.709."""
UNSPECIFIED, BT709 = 2, 1
"""FFmpeg's codes of colour matrices."""
PQ, HLG = 16, 18
"""FFmpeg's codes of the transfer functions of high dynamic range."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video's picture and sound, from its container."""

    path: Path
    width: int
    """Width in px of the frames of `read_frames`: upright, of square pixels."""
    height: int
    fps: float
    """The file's own average rate in Hz."""
    frames: int
    """Expected number of frames at `FPS`; the exact one is known after decoding."""
    has_audio: bool
    interlaced: bool = False
    """Whether its pictures are two fields each."""


def probe_video(path: Path) -> VideoInfo:
    """Reads a clip's size, rate and length without decoding all of it.

    Args:
        path: the video file.

    Returns:
        Properties stored in the container and the first frame.

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
            interlaced=bool(first.interlaced_frame),
        )


def read_frames(
    path: Path, fps: float = FPS, size: tuple[int, int] | None = None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Decodes a clip once, from start to end, resampled in time to a constant rate.

    Output frame i is the source frame nearest to i / fps seconds after the first one, so variable frame rates
    keep their timing and the picture does not drift against the sound. Damaged frames are left out; their neighbours
    are repeated instead. Of joined pieces whose time stamps begin anew, one follows the other.

    The frames look as in a video player: rotated and mirrored by the file's display matrix, stretched to square
    pixels, and in sRGB. High dynamic range (HLG, PQ) is clipped at its reference white; interlaced pictures are
    deinterlaced.

    Args:
        path: the video file.
        fps: output rate in Hz.
        size: width and height of the frames in px; None: of the first. Calls change the size of their picture: the
            others are scaled, centred, with black borders where their shape differs.

    Yields:
        RGB frames, upright, of square pixels.

    Raises:
        NTalkerError: the file is missing, is no video, or cannot be read to its end.
    """
    for picture in read_stored_sizes(path, fps):
        if size is None:
            size = picture.shape[1], picture.shape[0]
        yield fitted(picture, size)


def read_stored_sizes(path: Path, fps: float = FPS) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """As `read_frames`, but each frame in the size that it has in the file."""
    from av.video.reformatter import VideoReformatter

    # One for all frames: `frame.reformat` would compute colour tables for every frame.
    reformatter = VideoReformatter()
    with open_media(path, "video") as container:
        stream = _picture_stream(container, path)
        for frame in _resample(progressive(placed_frames(path, container, stream)), fps):
            yield _upright(_srgb(frame, stream, reformatter), _display_matrix(frame))


def fitted(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "rows columns 3"]:
    """A picture scaled to fit into a size, centred on black; the same picture where it has that size.

    Args:
        picture: RGB.
        size: width and height in px.
    """
    import cv2

    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale, x, y = placement((width, height), size)
    inner = min(max(round(width * scale), 1), size[0]), min(max(round(height * scale), 1), size[1])
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    scaled = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas[round(y) : round(y) + inner[1], round(x) : round(x) + inner[0]] = scaled
    return canvas


def placement(own: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float]:
    """How `fitted` places a picture of one size in another: scale, and x and y of its corner in px."""
    scale = min(size[0] / own[0], size[1] / own[1])
    return scale, 0.5 * (size[0] - round(own[0] * scale)), 0.5 * (size[1] - round(own[1] * scale))


def _picture_stream(container: Any, path: Path) -> Any:
    stream = picture_stream(container)
    if stream is None:
        raise NTalkerError(f"{path} has no video track; give a clip that shows the speaker.")
    stream.thread_type = "AUTO"
    return stream


def _duration(container: Any, stream: Any, fps: float, first: Any) -> float:
    """Length in seconds.

    Args:
        container: the file, decoded up to `first`.
        stream: its picture.
        fps: its average rate in Hz.
        first: its first frame.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if stream.frames:
        return stream.frames / fps
    if container.duration:
        return container.duration / 1e6
    # Browsers store no length in their recordings: it follows from the packets' time stamps.
    stamps = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None]
    return max(stamps, default=0.0) - (first.time or 0.0) + 1.0 / fps


def _resample(frames: Iterator[tuple[float | None, Any]], fps: float) -> Iterator[Any]:
    """Picks, for each output time, the nearest frame in time; frames without a time stamp follow at `fps`."""
    start: float | None = None
    previous: tuple[float, Any] | None = None
    step = 1.0 / fps
    index = 0
    for time, frame in frames:
        if time is None:
            now = previous[0] + step if previous else 0.0
        else:
            start = time if start is None else start
            now = time - start
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
    """The stored picture of a frame, converted to sRGB and square pixels; not rotated."""
    width, height = _square_pixels(frame, stream)
    matrix = BT709 if _is_untagged_hd(frame) else None
    transfer = stream.codec_context.color_trc
    if transfer not in (PQ, HLG):
        return reformatter.reformat(frame, width, height, "rgb24", src_colorspace=matrix).to_ndarray()
    from ntalker_ns.media.hdr import hlg_to_srgb, pq_to_srgb

    coded = reformatter.reformat(frame, width, height, "rgb48le").to_ndarray()
    return pq_to_srgb(coded) if transfer == PQ else hlg_to_srgb(coded)


def _is_untagged_hd(frame: Any) -> bool:
    """Whether video players decode a frame as BT.709 where FFmpeg assumes BT.601, for lack of a tag."""
    return frame.colorspace == UNSPECIFIED and frame.height >= HD_LINES and not frame.format.is_rgb


def _square_pixels(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height of a stored picture with square pixels; neither is smaller than stored, so no detail is lost."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if abs(math.log(aspect)) < SQUARE:
        return frame.width, frame.height
    return round(frame.width * max(1.0, aspect)), round(frame.height * max(1.0, 1.0 / aspect))


Matrix = tuple[float, float, float, float]
"""(a, b, c, d): the stored pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift and a scale."""


def _display_matrix(frame: Any) -> Matrix:
    """Rotation and reflection of a stored picture for display, from the frame's side data, as phones write it."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV fails on side data of kinds that it does not know; the rotation can still be read.
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if stored is None:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(stored, np.int32)[:5].tolist()
    return a, b, c, d


def _is_transposed(matrix: Matrix) -> bool:
    """Whether the rotation is a quarter turn, which exchanges rows and columns."""
    return abs(matrix[1]) > abs(matrix[0])


def _upright(image: UInt8[np.ndarray, "h w 3"], matrix: Matrix) -> UInt8[np.ndarray, "rows columns 3"]:
    a, b, c, d = matrix
    if _is_transposed(matrix):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
