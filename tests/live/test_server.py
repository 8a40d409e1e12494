"""The server: who is served, what is refused, and that sound comes back with pictures that show it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer
from support.live_head import drawn_engine

from ntalker_ns.live.guard import Guard
from ntalker_ns.live.heads import LiveHeads
from ntalker_ns.live.listener import HEADER, PICTURE, SOUND
from ntalker_ns.live.server import LONGEST_TEXT, LiveServer
from ntalker_ns.live.voice import BLOCK
from ntalker_ns.media.sound import from_pcm16, to_pcm16, write_wav
from ntalker_ns.media.upload import LARGEST

TONE = (0.8 * np.sin(np.arange(25 * BLOCK) * 0.3)).astype(np.float32)
"""A second."""


@asynccontextmanager
async def a_client(guard: Guard, sessions: int, edited: bool) -> AsyncIterator[TestClient[Any, Any]]:
    with drawn_engine(sessions=sessions, edited=edited) as engine:
        app = LiveServer(engine, guard, "en-us+f3", "anna", LiveHeads(engine, Path("nowhere"))).application()
        async with TestClient(TestServer(app)) as client:
            yield client


def with_client(
    test: Callable[[Any], Awaitable[None]], guard: Guard | None = None, sessions: int = 1, edited: bool = False
) -> None:
    """Runs a test with a client of a server."""

    async def run() -> None:
        async with a_client(guard or Guard(), sessions, edited) as client:
            await asyncio.wait_for(test(client), 30)

    asyncio.run(run())


class Talk:
    """One end of a WebSocket; keeps what it gets."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[dict[str, Any]] = []
        self.sounds: dict[int, np.ndarray] = {}
        self.pictures: dict[int, np.ndarray] = {}

    async def until(self, enough: Callable[[], Any]) -> None:
        while not enough():
            message = await self.socket.receive(timeout=10)
            if message.type == WSMsgType.TEXT:
                self.texts.append(json.loads(message.data))
            elif message.type == WSMsgType.BINARY:
                kind, index, _ = HEADER.unpack_from(message.data)
                data = message.data[HEADER.size :]
                if kind == SOUND:
                    self.sounds[index] = from_pcm16(data) if data else np.zeros(BLOCK, np.float32)
                elif kind == PICTURE:
                    self.pictures[index] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            else:
                raise AssertionError(f"The socket closed: {message}")

    async def told(self, kind: str) -> dict[str, Any]:
        """The next message of a kind that was not asked for before."""
        await self.until(lambda: any(text["type"] == kind for text in self.texts))
        found = next(text for text in self.texts if text["type"] == kind)
        self.texts.remove(found)
        return found

    def bars(self) -> dict[int, float]:
        """By block, how high the white bar of its picture is, 0 to 1: how far the lips are open."""
        return {index: float((picture[4:44, 24] > 150).all(axis=-1).mean()) for index, picture in self.pictures.items()}


@asynccontextmanager
async def a_talk(client: Any, path: str = "/ws", **options: Any) -> AsyncIterator[Talk]:
    async with client.ws_connect(path, **options) as socket:
        yield Talk(socket)


def test_sound_that_is_sent_comes_back_whole_and_its_pictures_show_it():
    async def test(client: Any) -> None:
        async with a_talk(client) as talk:
            assert (await talk.told("welcome"))["fps"] == 25
            said = np.tile(TONE, 3)
            for piece in np.split(said, 30):
                await talk.socket.send_bytes(to_pcm16(piece))
            await talk.socket.send_json({"type": "end"})
            begin = (await talk.told("speaking"))["block"]
            end = (await talk.told("silent"))["block"]
            assert end - begin == 75
            await talk.until(lambda: max(talk.pictures, default=0) >= end + 10)
            sound = np.concatenate([talk.sounds[index] for index in range(begin, end)])
            np.testing.assert_allclose(sound, said, atol=2e-4)
            bars = talk.bars()
            shown = [bar for index, bar in bars.items() if begin + 5 <= index < end]
            assert np.mean(shown) == pytest.approx(0.8, abs=0.05)
            assert bars[max(bars)] < 0.1

    with_client(test)


def test_an_interruption_stops_sound_and_lips():
    async def test(client: Any) -> None:
        async with a_talk(client) as talk:
            await talk.told("welcome")
            await talk.socket.send_bytes(to_pcm16(np.tile(TONE, 10)))
            await talk.told("speaking")
            await talk.until(lambda: max(talk.bars().values(), default=0.0) > 0.7)
            answer = await client.post("/interrupt")
            assert answer.status == 200
            cleared = (await talk.told("cleared"))["block"]
            await talk.until(lambda: max(talk.pictures) >= cleared + 8)
            assert not any(sound.any() for index, sound in talk.sounds.items() if index >= cleared)
            assert talk.bars()[max(talk.pictures)] < 0.1

    with_client(test)


@pytest.mark.parametrize("kind", ["wav", "text"])
def test_files_and_texts_are_spoken(kind: str, tmp_path: Path):
    async def test(client: Any) -> None:
        async with a_talk(client) as talk:
            session = (await talk.told("welcome"))["session"]
            if kind == "wav":
                write_wav(tmp_path / "tone.wav", np.repeat(TONE[:8000], 3), 48000)
                answer = await client.post(f"/speak?session={session}", data=(tmp_path / "tone.wav").read_bytes())
            else:
                answer = await client.post("/speak", json={"text": "Yes."})
            body = await answer.json()
            assert answer.status == 200 and body["session"] == session
            assert body["seconds"] == pytest.approx(0.5, abs=0.01 if kind == "wav" else 0.4)
            await talk.told("speaking")
            await talk.told("silent")
            spoken = sum(sound.any() for sound in talk.sounds.values())
            assert 0.04 * spoken == pytest.approx(body["seconds"], abs=0.25)

    with_client(test)


def test_what_cannot_be_spoken_is_refused_in_one_sentence():
    async def refused(client: Any, **request: Any) -> str:
        answer = await client.post("/speak", **request)
        assert answer.status == 400, await answer.text()
        return (await answer.json())["error"]

    async def test(client: Any) -> None:
        assert "Say which session" in await refused(client, json={"text": "Yes."})
        async with a_talk(client) as talk:
            await talk.told("welcome")
            assert "no sound that can be decoded" in await refused(client, data=b"RIFF and nothing else" * 99)
            assert "no sound that can be decoded" in await refused(client, data=b"#EXTM3U\nfile:///etc/hostname\n")
            for text in ("", "   ", "x" * (LONGEST_TEXT + 1), 7, None):
                assert "Send a text" in await refused(client, json={"text": text})
            assert "no JSON" in await refused(client, data="{", headers={"Content-Type": "application/json"})
            assert "Say which session" in await refused(client, json={"text": "Yes."}, params={"session": "other"})
            too_large = await client.post("/speak", data=bytes(LARGEST + 1))
            assert too_large.status == 413
            for order in ('{"type": "fly"}', "[", '{"type": "look", "look": {"background": "/etc/passwd"}}'):
                await talk.socket.send_str(order)
                assert (await talk.told("error"))["says"]

    with_client(test)


def test_a_look_changes_the_pictures():
    async def test(client: Any) -> None:
        async with a_talk(client) as talk:
            await talk.told("welcome")
            await talk.until(lambda: talk.pictures)
            await talk.socket.send_json({"type": "look", "look": {"background": "#00ff00"}})
            await talk.until(lambda: abs(talk.pictures[max(talk.pictures)][0, 0] - [0.0, 255.0, 0.0]).max() < 20)

    with_client(test)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/edit", {"instruction": "make it fly"}, "style"),
        ("/edit", {"instruction": "sepia", "output_dir": "/tmp"}, "An edit has"),
        ("/edit", {"editor": "picture", "picture": "/etc/passwd!"}, "not in base64"),
        ("/edit", {"instruction": "sepia"}, "There is no run at nowhere"),
        ("/edit/preview", {"preset": "../x"}, "The presets are"),
        ("/head", {"index": 3}, "There are heads"),
        ("/head", {"index": "0"}, "There are heads"),
        ("/head", [], "Send"),
    ],
)
def test_edits_that_cannot_be_made_are_refused(path: str, body: Any, reason: str):
    async def test(client: Any) -> None:
        answer = await client.post(path, json=body)
        assert answer.status == 400 and reason in (await answer.json())["error"].replace(f"{Path.cwd()}/", "")
        facts = await (await client.get("/edit")).json()
        assert facts["heads"] == ["as loaded"] and not facts["running"] and facts["sheet"] is None
        assert (await client.get("/edit/sheet")).status == 404

    with_client(test)


def test_the_listener_s_sound_is_the_clock():
    async def test(client: Any) -> None:
        async with a_talk(client) as talk:
            lead = (await talk.told("welcome"))["lead_ms"] / 1000
            await talk.socket.send_json({"type": "played", "block": 0})
            await asyncio.sleep(1.5)
            await talk.until(lambda: len(talk.sounds) >= 2)
            # Half a second after a report that it stands still, nothing is made ahead any more.
            assert max(talk.sounds) <= (0.5 + lead) * 25 + 13
            before = max(talk.sounds)
            await talk.socket.send_json({"type": "played", "block": before + 5})
            await talk.until(lambda: max(talk.sounds) >= before + 5)

    with_client(test)


def test_others_wait_in_a_queue_until_somebody_leaves():
    async def test(client: Any) -> None:
        async with a_talk(client) as second_in_line:
            pass
        async with a_talk(client) as waiting_twice:
            await waiting_twice.told("welcome")
            async with a_talk(client) as second, a_talk(client) as third:
                assert (await second.told("queued"))["place"] == 1
                assert (await third.told("queued"))["place"] == 2
                await waiting_twice.socket.close()
                await second.told("welcome")
                assert (await third.told("queued"))["place"] == 1
                status = await (await client.get("/status")).json()
                assert len(status["sessions"]) == 1 and status["waiting"] == 1
        assert second_in_line.socket.closed

    with_client(test)


def test_a_listener_who_leaves_while_it_speaks_leaves_nothing_behind():
    async def test(client: Any) -> None:
        for _ in range(3):
            async with a_talk(client) as talk:
                await talk.told("welcome")
                await talk.socket.send_bytes(to_pcm16(np.tile(TONE, 10)))
                await talk.told("speaking")
                await talk.until(lambda talk=talk: max(talk.bars().values(), default=0.0) > 0.7)
        while (await (await client.get("/status")).json())["sessions"]:
            await asyncio.sleep(0.01)
        async with a_talk(client) as talk:
            await talk.told("welcome")
            await talk.until(lambda: len(talk.pictures) > 5)
            assert max(talk.bars().values()) < 0.1

    with_client(test)


def test_two_sessions_at_once_hear_their_own_sound():
    async def test(client: Any) -> None:
        async with a_talk(client) as one, a_talk(client) as two:
            name = (await one.told("welcome"))["session"]
            assert (await two.told("welcome"))["session"] != name
            await one.socket.send_bytes(to_pcm16(TONE))
            await one.told("speaking")
            await two.until(lambda: max(two.sounds, default=0) > 30)
            assert not any(sound.any() for sound in two.sounds.values())
            assert (await client.post("/interrupt")).status == 400

    with_client(test, sessions=2)


def test_pages_of_other_sites_and_other_names_are_refused():
    async def test(client: Any) -> None:
        for headers in ({"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Host": "elsewhere.example"}):
            assert (await client.post("/interrupt", headers=headers)).status == 403
            assert (await client.get("/status", headers=headers)).status == 403
            with pytest.raises(WSServerHandshakeError, match="403"):
                await client.ws_connect("/ws", headers=headers)
        own = f"http://{client.host}:{client.port}"
        async with a_talk(client, headers={"Origin": own}) as talk:
            await talk.told("welcome")
        for path in ("/page/../server.py", "/page/%2e%2e/server.py", "/page//etc/passwd"):
            assert (await client.get(path)).status in (403, 404)

    with_client(test)


def test_with_a_token_nothing_is_served_without_it():
    guard = Guard.of_host("192.0.2.1")
    assert guard.token is not None and len(guard.token) >= 24
    assert Guard.of_host("localhost").token is None and Guard.of_host("::1").token is None

    async def test(client: Any) -> None:
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {guard.token}x"}):
            assert (await client.get("/status", headers=headers)).status == 401
            with pytest.raises(WSServerHandshakeError, match="401"):
                await client.ws_connect("/ws", headers=headers)
        right = {"Authorization": f"Bearer {guard.token}"}
        assert (await client.get("/status", headers=right)).status == 200
        assert (await client.get("/")).status == 200
        async with a_talk(client, f"/ws?token={guard.token}") as talk:
            await talk.told("welcome")

    with_client(test, guard)


def test_the_description_names_every_route():
    async def test(client: Any) -> None:
        described = await (await client.get("/openapi.json")).json()
        routes = {route.resource.canonical for route in client.server.app.router.routes() if route.resource is not None}
        assert set(described["paths"]) == routes - {"/", "/page", "/openapi.json"}

    with_client(test)


def test_the_page_loads_nothing_from_elsewhere():
    page = Path(__file__).parents[2] / "ntalker_ns/live/page"
    for file in page.iterdir():
        if file.suffix != ".json":
            assert "http:" not in file.read_text() and "https:" not in file.read_text().replace('"https:"', ""), file
