"""Sound and pictures by WebRTC: a browser's own clock and its buffers keep them in step over any network."""

import asyncio
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.session import LATEST, Block
from ntalker_ns.live.voice import BLOCK, SECONDS
from ntalker_ns.media.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from ntalker_ns.live.listener import Listener

VIDEO_RATE = 90_000
"""Ticks per second of a video track."""


class Call:
    """The two tracks of a listener. The sound track is the session's clock: pictures wait for their block's sound."""

    def __init__(self, listener: "Listener") -> None:
        """
        Args:
            listener: whose sound and pictures they carry.
        """
        from aiortc import AudioStreamTrack, RTCPeerConnection, VideoStreamTrack

        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._sounds: deque[Block] = deque()
        self._pictures: deque[tuple[Block, bytes]] = deque(maxlen=LATEST)
        self._playing, self._sent, self._begin = -1, 0, 0.0
        self._moved = asyncio.Event()
        self.connection = RTCPeerConnection()
        call = self

        class SoundTrack(AudioStreamTrack):
            async def recv(self) -> Any:
                return await call._next_sound()

        class PictureTrack(VideoStreamTrack):
            async def recv(self) -> Any:
                return await call._next_picture()

        self.connection.addTrack(SoundTrack())
        self.connection.addTrack(PictureTrack())

    def sound(self, block: Block) -> None:
        """See `Outlet`."""
        self._sounds.append(block)

    def picture(self, block: Block, picture: bytes) -> None:
        """See `Outlet`."""
        self._pictures.append((block, picture))
        self._loop.call_soon_threadsafe(self._moved.set)

    def cleared(self, index: int) -> None:
        """See `Outlet`."""
        self._sounds.clear()
        self._pictures.clear()
        # The first picture after it does not wait: there is no sound that it could be ahead of.
        self._playing = index

    def failed(self) -> None:
        """See `Outlet`."""

    async def _next_sound(self) -> Any:
        """The next 40 ms, at their time; silence where the session is late."""
        import av

        if self._sent == 0:
            self._begin = self._loop.time()
        await asyncio.sleep(max(0.0, self._begin + self._sent * SECONDS - self._loop.time()))
        samples = np.zeros(BLOCK, np.int16)
        if self._sounds:
            block = self._sounds.popleft()
            samples = np.round(np.clip(block.spoken.sound, -1.0, 1.0) * 32767.0).astype(np.int16)
            self._playing = block.index
            if self._listener.session is not None:
                self._listener.session.clock.report(block.index * SECONDS)
            self._moved.set()
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        frame.pts = self._sent * BLOCK
        self._sent += 1
        return frame

    async def _next_picture(self) -> Any:
        """The next picture, when its sound is sent. The listener is told which one it is: RTP knows times only."""
        import av
        import cv2

        while not self._pictures or self._pictures[0][0].index > self._playing:
            self._moved.clear()
            await self._moved.wait()
        block, picture = self._pictures.popleft()
        while self._pictures and self._pictures[0][0].index <= self._playing:
            block, picture = self._pictures.popleft()
        decoded: Any = await asyncio.to_thread(cv2.imdecode, np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        frame = av.VideoFrame.from_ndarray(decoded, format="bgr24").reformat(format="yuv420p")
        frame.time_base = Fraction(1, VIDEO_RATE)
        frame.pts = round((self._loop.time() - self._begin) * VIDEO_RATE)
        late = self._playing - block.index
        self._listener.tell("sent", block=block.index, heard=block.spoken.consumed, late=late, time=frame.pts)
        return frame


class Calls:
    """The calls of a server."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def answer(self, listener: "Listener", sdp: str) -> str:
        """Takes a browser's offer.

        Args:
            listener: of whose session sound and pictures go by the call, once it is connected.
            sdp: the offer.

        Returns:
            The answer's SDP.

        Raises:
            NTalkerError: it is no offer.
        """
        from aiortc import RTCSessionDescription

        self.hang_up(listener)
        call = Call(listener)
        try:
            await call.connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            await call.connection.setLocalDescription(await call.connection.createAnswer())
        except (ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            await call.connection.close()
            raise NTalkerError("This is no offer of a call that receives sound and video.") from error
        self._calls[listener.name] = call

        @call.connection.on("connectionstatechange")
        def changed() -> None:
            state = call.connection.connectionState
            if self._calls.get(listener.name) is call and state == "connected":
                listener.track = call
            elif self._calls.get(listener.name) is call and state in ("failed", "closed"):
                self.hang_up(listener)

        return call.connection.localDescription.sdp

    def hang_up(self, listener: "Listener") -> None:
        """Ends a listener's call, if there is one: its sound and pictures go by the WebSocket again."""
        call = self._calls.pop(listener.name, None)
        listener.track = None
        if call is not None:
            task = asyncio.get_running_loop().create_task(call.connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Ends all calls."""
        calls, self._calls = list(self._calls.values()), {}
        await asyncio.gather(*(call.connection.close() for call in calls), *self._closing)
