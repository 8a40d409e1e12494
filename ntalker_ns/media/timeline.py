"""Time stamps of files that were joined from pieces, each of which begins anew.

Joined MPEG transport streams and chained Ogg files jump back in time where a piece begins. All streams of a piece are
moved by the same amount, so that sound and picture stay in step.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ntalker_ns.media.decode import decode, open_media, picture_stream

JUMP = 0.5
"""Seconds by which a time stamp must fall behind the one before it to begin a piece."""

Span = tuple[float, float]
"""Begin and end in seconds."""


def placed_frames(path: Path, container: Any, stream: Any) -> Iterator[tuple[float | None, Any]]:
    """Decodes a stream; pieces that begin anew follow those before them.

    Args:
        path: of the container, which is read once more where a piece begins.
        container: an open file.
        stream: one of its streams, of pictures or sound.

    Yields:
        Each frame's time in seconds, None where the file does not say it, and the frame.
    """
    moves, piece, last = [0.0], 0, None
    for frame in decode(container, stream):
        time = frame.time
        if time is None:
            yield None, frame
            continue
        if last is not None and time < last - JUMP:
            piece += 1
            if piece == 1:
                moves = piece_moves(path)
        last = time
        yield time + moves[min(piece, len(moves) - 1)], frame


def piece_moves(path: Path) -> list[float]:
    """By how many seconds each piece of a file is moved, with all its sound and pictures."""
    pieces = _piece_spans(path)
    moves, end = [], pieces[0][0] if pieces else 0.0
    for begin, until in pieces:
        moves.append(end - begin)
        end += until - begin
    return moves or [0.0]


def _piece_spans(path: Path) -> list[Span]:
    """When the pieces begin and end, by the time stamps of their packets."""
    spans: dict[int, list[Span]] = defaultdict(list)
    with open_media(path, "video") as container:
        picture = picture_stream(container)
        streams = [*container.streams.audio, *([] if picture is None else [picture])]
        decoded: dict[int, float] = {}
        for packet in container.demux(streams):
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is None or packet.pts is None or packet.time_base is None:
                continue
            unit, own = float(packet.time_base), spans[packet.stream.index]
            begin, until = packet.pts * unit, (packet.pts + (packet.duration or 0)) * unit
            before = decoded.get(packet.stream.index)
            decoded[packet.stream.index] = stamp * unit
            if before is None or stamp * unit < before - JUMP:
                own.append((begin, until))
            else:
                own[-1] = min(own[-1][0], begin), max(own[-1][1], until)
    count = max(map(len, spans.values()), default=0)
    each = [[own[i] for own in spans.values() if i < len(own)] for i in range(count)]
    return [(min(begin for begin, _ in parts), max(until for _, until in parts)) for parts in each]
