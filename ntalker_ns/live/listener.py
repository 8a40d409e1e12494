"""A browser or program on the WebSocket: its session, its place in the queue, and what is sent to it."""

import asyncio
import json
import struct
from collections import deque
from typing import Any

from ntalker_ns.live.session import Block, Outlet, Session
from ntalker_ns.media.sound import to_pcm16

SOUND, PICTURE = 1, 2
"""Kinds of binary messages."""
HEADER = struct.Struct("<BxxxII")
"""Kind, block, and samples of what was sent to be spoken that were spoken before the block; then the bytes of the sound
(PCM16 at 16 kHz; none: 40 ms of silence) or of the picture (JPEG)."""

UNSENT = 3
"""Pictures that wait for a slow connection; older ones are left out."""
LOST = 750
"""Unsent messages, 30 s, after which a connection is given up."""


class Listener:
    """Sends a session's sound and pictures over a WebSocket, from the engine's threads to the server's loop."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """
        Args:
            name: by which requests mean this listener.
            loop: the server's.
        """
        self.name = name
        self.session: Session | None = None
        self.track: Outlet | None = None
        """Where sound and pictures go instead, once they go by WebRTC."""
        self._loop, self._speaking = loop, False
        self._first = 0  # block after the last interruption
        self._interrupted = False  # and none of its pictures was sent yet
        self._texts: deque[str | bytes] = deque()
        self._pictures: deque[bytes] = deque(maxlen=UNSENT)
        self._ready = asyncio.Event()
        self.is_lost = False
        """Whether it takes nothing any more."""

    def sound(self, block: Block) -> None:
        """See `Outlet`."""
        if block.spoken.speaking != self._speaking:
            self._speaking = block.spoken.speaking
            self.tell("speaking" if self._speaking else "silent", block=block.index)
        if self.track is not None:
            return self.track.sound(block)
        samples = to_pcm16(block.spoken.sound) if block.spoken.speaking else b""
        self._send(HEADER.pack(SOUND, block.index, block.spoken.consumed) + samples)

    def picture(self, block: Block, picture: bytes) -> None:
        """See `Outlet`."""
        if block.index < self._first:
            return  # it was being rendered when it was interrupted
        if self.track is not None:
            self.track.picture(block, picture)
            if not self._interrupted:
                return
        # The first one after an interruption goes by the WebSocket, too: a browser buffers a track's pictures.
        self._interrupted = False
        self._pictures.append(HEADER.pack(PICTURE, block.index, block.spoken.consumed) + picture)
        self._wake()

    def cleared(self, index: int) -> None:
        """See `Outlet`."""
        if self.track is not None:
            self.track.cleared(index)
        self._first, self._interrupted = index, True
        self._pictures.clear()
        self.tell("cleared", block=index)

    def failed(self) -> None:
        """See `Outlet`."""
        self.is_lost = True
        self._wake()

    def tell(self, kind: str, **fields: Any) -> None:
        """Sends a message of text."""
        self._send(json.dumps({"type": kind, **fields}))

    async def unsent(self) -> list[str | bytes]:
        """Waits for something to send, and takes it; nothing once the listener is lost."""
        await self._ready.wait()
        self._ready.clear()
        messages: list[str | bytes] = []
        # Sound first: it is the master.
        while self._texts and not self.is_lost:
            messages.append(self._texts.popleft())
        while self._pictures and not self.is_lost:
            messages.append(self._pictures.popleft())
        return messages

    def _send(self, message: str | bytes) -> None:
        self.is_lost = self.is_lost or len(self._texts) > LOST
        self._texts.append(message)
        self._wake()

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)
