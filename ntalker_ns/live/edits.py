"""Edits from the live page: requests, progress, and the edited head."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from aiohttp import web
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.editing.edit_process import OFFERED, EditProcess, EditRequest
from ntalker_ns.editing.presets import preset_names
from ntalker_ns.editing.preview import preview
from ntalker_ns.editing.progress import PAUSE
from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.heads import LiveHeads
from ntalker_ns.live.pictures import compressed


class Edits:
    """One edit at a time, for all browsers: it changes the head that all of them see."""

    def __init__(self, heads: LiveHeads, tell_all: Callable[..., None]) -> None:
        """
        Args:
            heads: the heads that can be shown.
            tell_all: sends a message to every browser.
        """
        self._heads, self._tell_all = heads, tell_all
        self._process: EditProcess | None = None
        self._following: asyncio.Task[None] | None = None
        self._says = ""
        self._previewing = asyncio.Lock()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Adds what programs and pages ask."""
        router.add_get("/edit", self._status)
        router.add_post("/edit", self._start)
        router.add_post("/edit/stop", self._stop)
        router.add_post("/edit/preview", self._preview)
        router.add_get("/edit/sheet", self._sheet)
        router.add_post("/head", self._show)

    def facts(self) -> dict[str, Any]:
        """The state of heads and edits, for a page."""
        running = self._following is not None and not self._following.done()
        progress = self._process.progress() if running and self._process is not None else None
        sheet = None if self._process is None else self._process.sheet()
        return {
            "heads": self._heads.names,
            "shown": self._heads.shown,
            "edited": self._heads.edited,
            "has_before": self._heads.has_before,
            "running": running,
            "says": self._says,
            "fraction": None if progress is None else round(progress.fraction, 4),
            "seconds_left": None if progress is None else progress.seconds_left,
            "sheet": None if sheet is None else f"{sheet.parent.parent.parent.name} {sheet.stem}",
            "editors": OFFERED,
            "presets": preset_names(),
        }

    async def close(self) -> None:
        """Stops what runs."""
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
        if self._following is not None:
            await asyncio.wait([self._following])

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self.facts())

    async def _start(self, request: web.Request) -> web.Response:
        wanted = await _request_of(request)
        if self._following is not None and not self._following.done():
            raise NTalkerError("An edit runs already: stop it, or wait for it.")
        self._process = EditProcess(self._heads.base(), wanted)
        self._following = asyncio.create_task(self._follow(self._process, self._heads.shown))
        return web.json_response(self.facts())

    async def _stop(self, request: web.Request) -> web.Response:
        if self._process is not None and self._process.running:
            self._say("Stopping ...")
            await asyncio.to_thread(self._process.stop)
        return web.json_response(self.facts())

    async def _preview(self, request: web.Request) -> web.Response:
        wanted = await _request_of(request)
        if self._previewing.locked():
            raise NTalkerError("A preview is being made: wait for it.")
        async with self._previewing:
            return web.Response(body=await asyncio.to_thread(self._previewed, wanted), content_type="image/jpeg")

    def _previewed(self, wanted: EditRequest) -> bytes:
        """Before and after, side by side."""
        jpeg = np.frombuffer(self._heads.portrait(), np.uint8)
        before = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
        return compressed(np.concatenate([before, preview(wanted, before)], axis=1))

    async def _sheet(self, request: web.Request) -> web.StreamResponse:
        sheet = None if self._process is None else self._process.sheet()
        if sheet is None:
            raise web.HTTPNotFound(text="There is no contact sheet yet.\n")
        return web.FileResponse(sheet)

    async def _show(self, request: web.Request) -> web.Response:
        match await request.json():
            case {"index": index}:
                self._heads.show(index)
            case _:
                raise NTalkerError('Send {"index": 0}.')
        self._tell()
        return web.json_response(self.facts())

    async def _follow(self, process: EditProcess, of: int) -> None:
        """Tells how far an edit is, until its head is shown."""
        try:
            while process.running:
                if not process.stopped:
                    self._say(str(process.progress()))
                await asyncio.sleep(PAUSE)
            if process.config is None:
                return self._end(process.failure() or process.left())
            self._say("Loading the edited head ...")
            name = process.request.words or f"by {process.request.editor}"
            await asyncio.to_thread(self._heads.add, process.folder, name, of)
            self._end(f"Done: {name}. Kept as {process.config}")
        except NTalkerError as error:
            self._end(str(error))
        except Exception:
            CONSOLE.print_exception()
            self._end("The edit failed by a fault of this program: its message is where the server was started.")

    def _say(self, text: str) -> None:
        self._says = text
        self._tell()

    def _end(self, text: str) -> None:
        # The last message says that nothing runs any more, which is true when the task has ended.
        self._says = text
        assert self._following is not None
        self._following.add_done_callback(lambda _: self._tell())

    def _tell(self) -> None:
        self._tell_all("edit", edit=self.facts())


async def _request_of(request: web.Request) -> EditRequest:
    """The request in a body of JSON; its picture is in base64.

    Raises:
        NTalkerError: it cannot be done.
    """
    body = await request.json()
    picture = body.pop("picture", None) if isinstance(body, dict) else None
    try:
        content = None if picture is None else base64.b64decode(picture, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise NTalkerError("The picture is not in base64.") from error
    return await asyncio.to_thread(EditRequest.of, body, content)
