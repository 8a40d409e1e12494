"""The live page of an engine in a browser."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ntalker_ns.live.engine import Engine
from ntalker_ns.live.guard import Guard
from ntalker_ns.live.heads import LiveHeads
from ntalker_ns.live.server import LiveServer, run_server


@contextmanager
def served(engine: Engine, port: int = 0, guard: Guard | None = None, heads: LiveHeads | None = None) -> Iterator[int]:
    """A server in a thread of its own; yields its port."""
    loop, over, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    ports: list[int] = []

    def started(port: int) -> None:
        ports.append(port)
        ready.set()

    server = LiveServer(engine, guard or Guard(), "en-us+f3", "anna", heads or LiveHeads(engine, Path("nowhere")))
    serving = run_server(server, "127.0.0.1", port, started, over)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        assert ready.wait(10)
        yield ports[0]
    finally:
        # After a failed test, too: Python does not end while the thread runs.
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def opened(browser: Any, port: int) -> Any:
    page = browser.new_page(viewport={"width": 1180, "height": 820})
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/")
    return page
