"""The server of a live head: a page, and the same as an interface for programs."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from ntalker_ns import __version__
from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.edits import Edits
from ntalker_ns.live.engine import Engine
from ntalker_ns.live.guard import Guard
from ntalker_ns.live.heads import LiveHeads
from ntalker_ns.live.listener import Listener
from ntalker_ns.live.webrtc import Calls
from ntalker_ns.media.espeak import synthesize
from ntalker_ns.media.sound import SAMPLE_RATE, Sound, from_pcm16
from ntalker_ns.media.upload import LARGEST, decoded
from ntalker_ns.media.video_reader import FPS

PAGE = Path(__file__).parent / "page"
LONGEST_TEXT = 5000
"""Characters of a text to be spoken."""
HEARTBEAT = 15.0
"""Heartbeat interval in s; a browser without one is disconnected."""
LARGEST_MESSAGE = 1 << 20
"""Bytes of a message of a listener: 30 s of sound."""


class LiveServer:
    """Serves one engine."""

    def __init__(self, engine: Engine, guard: Guard, voice: str, title: str, heads: LiveHeads) -> None:
        """
        Args:
            engine: started already.
            guard: checks requests.
            voice: of eSpeak NG, for texts.
            title: what the page calls the head.
            heads: that the engine can show.
        """
        self._engine, self._guard, self._voice, self._title = engine, guard, voice, title
        self._listeners: dict[str, Listener] = {}
        self._queue: list[Listener] = []
        self._calls = Calls()
        self._edits = Edits(heads, self._tell_all)

    def application(self) -> web.Application:
        """Its routes."""
        app = web.Application(middlewares=[self._guard.middleware, _errors_as_json], client_max_size=LARGEST)
        app.router.add_get("/", self._page)
        app.router.add_static("/page/", PAGE)
        app.router.add_get("/openapi.json", self._description)
        app.router.add_get("/status", self._status)
        app.router.add_get("/ws", self._listen)
        app.router.add_post("/speak", self._speak)
        app.router.add_post("/interrupt", self._interrupt)
        app.router.add_post("/offer", self._offer)
        self._edits.add_routes(app.router)
        app.on_shutdown.append(self._close)
        return app

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _description(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "openapi.json")

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._facts() | {"sessions": [self._session_facts(one) for one in self._served()]})

    def _facts(self) -> dict[str, Any]:
        engine = self._engine
        return {
            "title": self._title,
            "version": __version__,
            "size": engine.speed.size,
            "rate": round(engine.speed.rate, 1),
            "says": str(engine.speed),
            "fps": FPS,
            "sample_rate": SAMPLE_RATE,
            "lead_ms": round(1000 * engine.lead),
            "edit": self._edits.facts(),
            "capacity": engine.capacity,
            "waiting": len(self._queue),
        }

    def _served(self) -> list[Listener]:
        return [one for one in self._listeners.values() if one.session is not None]

    def _session_facts(self, listener: Listener) -> dict[str, Any]:
        assert listener.session is not None
        return {
            "session": listener.name,
            "position": round(listener.session.clock.position(), 3),
            "speaking": listener.session.voice.busy,
        }

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        # JPEG and speech do not get smaller by compression.
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=LARGEST_MESSAGE, compress=False)
        await socket.prepare(request)
        listener = Listener(secrets.token_urlsafe(12), asyncio.get_running_loop())
        self._listeners[listener.name] = listener
        sending = asyncio.create_task(_send_all(listener, socket))
        try:
            self._queue.append(listener)
            self._serve_next()
            async for message in socket:
                self._handle(listener, message)
        finally:
            sending.cancel()
            self._leave(listener)
        return socket

    def _serve_next(self) -> None:
        """Gives free sessions to those who wait, in order, and tells the others their place."""
        while self._queue and (session := self._engine.open(self._queue[0])) is not None:
            listener = self._queue.pop(0)
            listener.session = session
            listener.tell("welcome", session=listener.name, **self._facts())
        for place, listener in enumerate(self._queue, start=1):
            listener.tell("queued", place=place, capacity=self._engine.capacity)

    def _leave(self, listener: Listener) -> None:
        self._listeners.pop(listener.name, None)
        if listener in self._queue:
            self._queue.remove(listener)
        if listener.session is not None:
            self._engine.close(listener.session)
        self._calls.hang_up(listener)
        self._serve_next()

    def _handle(self, listener: Listener, message: Any) -> None:
        """A message of a listener: sound as PCM16, or an order."""
        session = listener.session
        if session is None:
            return
        try:
            if message.type == WSMsgType.BINARY:
                session.say(from_pcm16(message.data))
            elif message.type == WSMsgType.TEXT:
                self._obey(listener, json.loads(message.data))
        except (NTalkerError, ValueError) as error:
            listener.tell("error", says=str(error))

    def _obey(self, listener: Listener, order: Any) -> None:
        session = listener.session
        assert session is not None
        match order:
            case {"type": "played", "block": int() | float() as block}:
                if listener.track is None:
                    session.clock.report(_within(block, session.clock.position() * FPS) / FPS)
            case {"type": "look", "look": wanted}:
                session.look = session.look.changed(wanted, self._engine.pictures.edited)
            case {"type": "talk"}:
                listener.tell("talking", heard=session.talk())
            case {"type": "end"}:
                session.end()
            case {"type": "interrupt"}:
                session.interrupt()
            case {"type": "hang up"}:
                self._calls.hang_up(listener)
            case _:
                raise NTalkerError("There is no such order.")

    def _tell_all(self, kind: str, **fields: Any) -> None:
        for listener in self._listeners.values():
            listener.tell(kind, **fields)

    def _meant(self, request: web.Request) -> Listener:
        """The listener that a request is for: the one it names, or the only one.

        Raises:
            NTalkerError: there is none.
        """
        name = request.query.get("session")
        served = self._served()
        meant = [one for one in served if one.name == name] if name is not None else served
        if len(meant) != 1:
            raise NTalkerError("Say which session speaks: ?session=NAME, as the WebSocket's welcome named it.")
        return meant[0]

    async def _speak(self, request: web.Request) -> web.Response:
        listener = self._meant(request)
        if request.content_type == "application/json":
            body = await request.json()
            text = body.get("text") if isinstance(body, dict) else None
            if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
                raise NTalkerError(f"Send a text of up to {LONGEST_TEXT} characters.")
            work: Awaitable[Any] = asyncio.to_thread(_spoken_text, text, self._voice)
        else:
            work = decoded(await request.read())
        waveform = await work
        if listener.session is None:
            raise NTalkerError("The session ended.")
        listener.session.say(waveform, ends=True)
        return web.json_response({"session": listener.name, "seconds": round(len(waveform) / SAMPLE_RATE, 3)})

    async def _interrupt(self, request: web.Request) -> web.Response:
        listener = self._meant(request)
        assert listener.session is not None
        listener.session.interrupt()
        return web.json_response({"session": listener.name})

    async def _offer(self, request: web.Request) -> web.Response:
        listener = self._meant(request)
        body = await request.json()
        match body:
            case {"sdp": str() as sdp, "type": "offer"}:
                return web.json_response({"sdp": await self._calls.answer(listener, sdp), "type": "answer"})
        raise NTalkerError('Send an offer as {"sdp": ..., "type": "offer"}.')

    async def _close(self, app: web.Application) -> None:
        for listener in list(self._listeners.values()):
            listener.failed()
        await self._calls.close()
        await self._edits.close()


def _within(block: float, expected: float) -> float:
    """A listener's word for where it is, in blocks, but no more than a second ahead of what can be."""
    return max(0.0, min(float(block), expected + FPS))


def _spoken_text(text: str, voice: str) -> Any:
    waveform, rate = synthesize(text, voice)
    return Sound.of_waveform(waveform, rate).waveform(SAMPLE_RATE)


async def _send_all(listener: Listener, socket: web.WebSocketResponse) -> None:
    """Sends what a listener is to get, until it is lost."""
    try:
        while not listener.is_lost:
            for message in await listener.unsent():
                await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))
        await socket.close()
    except ConnectionError:
        return


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)
    except NTalkerError as error:
        return web.json_response({"error": str(error)}, status=400)
    except json.JSONDecodeError:
        return web.json_response({"error": "This is no JSON."}, status=400)


async def run_server(
    server: LiveServer, host: str, port: int, started: Callable[[int], None], over: asyncio.Event | None = None
) -> None:
    """Serves.

    Args:
        server: what is served.
        host: the address to listen on.
        port: 0 takes a free one.
        started: called with the port once it listens.
        over: ends it; None: it is served until the process ends.

    Raises:
        NTalkerError: the port is taken, or the address is not this machine's.
    """
    runner = web.AppRunner(server.application(), shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            reason = f"Nothing can listen on {host}:{port} ({error.strerror})"
            raise NTalkerError(f"{reason}: give another --port.") from error
        started(runner.addresses[0][1])
        await (over or asyncio.Event()).wait()
    finally:
        await runner.cleanup()
