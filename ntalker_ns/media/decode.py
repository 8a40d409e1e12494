"""Opens and decodes sound and video files, for all readers."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ntalker_ns.errors import NTalkerError


def open_media(path: Path, kind: Literal["audio", "video"]) -> Any:
    """Opens a file for reading with PyAV.

    Args:
        path: any file that FFmpeg knows.
        kind: what the caller looks for in it, for the message.

    Returns:
        The container, which is to be closed.

    Raises:
        NTalkerError: there is no such file, or it is neither sound nor video.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise NTalkerError(f"There is no {kind} file at {path}; check the path.")
    try:
        # FFmpeg reads text before a colon as a protocol, except in an absolute path. Metadata that are not UTF-8 are no
        # reason to stop.
        return av.open(str(path.absolute()), metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise NTalkerError(
            f"{path} cannot be decoded as {kind} ({error.strerror}); give a file such as an mp4."
        ) from error


def picture_stream(container: Any) -> Any | None:
    """The first video stream that is no cover picture; None if there is none."""
    from av.stream import Disposition

    moving = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(moving, None)


def decode(container: Any, stream: Any) -> Iterator[Any]:
    """Decodes a stream from the container's position to its end.

    Like video players, it skips packets that cannot be decoded; other frames keep their time stamps.

    Args:
        container: an open file.
        stream: one of its streams.

    Yields:
        PyAV frames in the order in which they are shown.

    Raises:
        NTalkerError: the file cannot be read any more.
    """
    from av.error import FFmpegError

    try:
        for packet in container.demux(stream):
            with suppress(FFmpegError):
                yield from packet.decode()
    except FFmpegError as error:
        raise NTalkerError(f"{container.name} cannot be read to its end ({error.strerror}).") from error
