"""Interlaced pictures: two fields of half the lines, taken one after the other and shown at once."""

from collections.abc import Iterator
from typing import Any

Placed = tuple[float | None, Any]
"""A frame with its time in seconds."""


def progressive(frames: Iterator[Placed]) -> Iterator[Placed]:
    """Makes whole pictures of those frames that the file says are interlaced; passes the others on.

    Args:
        frames: in the order in which they are shown.
    """
    graph: _Deinterlacer | None = None
    for time, frame in frames:
        if graph is not None and not graph.takes(frame):
            yield from graph.rest()
            graph = None
        if graph is None and frame.interlaced_frame:
            graph = _Deinterlacer(frame)
        if graph is None:
            yield time, frame
        else:
            yield from graph.put(time, frame)
    if graph is not None:
        yield from graph.rest()


class _Deinterlacer:
    """FFmpeg's filter yadif, for frames of one size and format. It looks a frame ahead."""

    def __init__(self, first: Any) -> None:
        from fractions import Fraction

        from av.filter import Graph

        self._format = _format_of(first)
        self._graph = Graph()
        width, height, kind = self._format
        source = self._graph.add_buffer(width=width, height=height, format=kind, time_base=Fraction(1, 1))
        yadif = self._graph.add("yadif", "mode=send_frame:parity=auto:deint=interlaced")
        source.link_to(yadif)
        yadif.link_to(self._graph.add("buffersink"))
        self._graph.configure()
        self._times: list[float | None] = []

    def takes(self, frame: Any) -> bool:
        return _format_of(frame) == self._format

    def put(self, time: float | None, frame: Any) -> Iterator[Placed]:
        self._times.append(time)
        # The times are kept here: a place in the list is the frame's.
        frame.pts = len(self._times) - 1
        self._graph.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[Placed]:
        self._graph.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[Placed]:
        from av.error import FFmpegError

        while True:
            try:
                frame = self._graph.pull()
            except FFmpegError:
                return
            yield self._times.pop(0), frame


def _format_of(frame: Any) -> tuple[int, int, Any]:
    return frame.width, frame.height, frame.format
