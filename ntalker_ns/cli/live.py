"""`ntalker live`: a web page with a head driven by microphone, text or uploaded audio."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError


@dataclass
class Live:
    """Serve a trained head on a web page, driven by microphone, audio file or text."""

    load_config: Path
    """The run's config.yml."""
    host: str = "127.0.0.1"
    """Address to listen on. Another one than this machine's own can be used only with the token that is printed."""
    port: int = 7008
    """Port to listen on; 0 takes a free one."""
    size: int | None = None
    """Longest side of the pictures in px. By default the largest of 512, 384, 256, 192 and 128 that keeps 25
    frames/s."""
    sessions: int = 0
    """Concurrent sessions (browsers); further ones queue. 0: as many as reach 10 frames/s each."""
    look_ahead: int = 60
    """Look-ahead in ms of audio after each frame: 40, 60, 100 or 160. Larger is more accurate and adds delay."""
    voice: str = "en-us+f3"
    """Voice of eSpeak NG for text: a language, and a variant after "+"."""

    def main(self) -> None:
        """Loads the run and serves it until it is interrupted."""
        from nerfstudio.utils.rich_utils import CONSOLE

        from ntalker_ns.live.engine import Engine
        from ntalker_ns.live.guard import Guard
        from ntalker_ns.live.heads import LiveHeads
        from ntalker_ns.live.server import LiveServer, run_server
        from ntalker_ns.media.espeak import synthesize
        from ntalker_ns.runs import load_run
        from ntalker_ns.speech.stream import LipStream

        self._check()
        synthesize("Yes.", self.voice)
        model: Any = load_run(self.load_config).model
        info = model.driving.feature_info
        engine = Engine.of_model(
            model, lambda: LipStream(model.lip_model, info, self.look_ahead), self.size, self.sessions
        )
        CONSOLE.print(f"{engine.speed} Sessions at once: {engine.capacity}.")
        guard = Guard.of_host(self.host)
        heads = LiveHeads(engine, self.load_config.resolve().parent)
        if heads.edited:
            heads.compare_with_base()
        server = LiveServer(engine, guard, self.voice, Path(model.driving.source).name or "head", heads)

        def started(port: int) -> None:
            name = f"[{self.host}]" if ":" in self.host else self.host
            fragment = "" if guard.token is None else f"/#token={guard.token}"
            print(f"Talk to it at http://{name}:{port}{fragment}", flush=True)

        engine.start()
        try:
            asyncio.run(run_server(server, self.host, self.port, started))
        finally:
            engine.stop()

    def _check(self) -> None:
        """Checks the options before the run is loaded."""
        if self.size is not None and not 64 <= self.size <= 2048:
            raise NTalkerError(f"--size {self.size} is not possible; give 64 to 2048 px.")
        if self.sessions < 0:
            raise NTalkerError(f"--sessions {self.sessions} is not possible; give 0 or more.")
        if not 0 <= self.port < 65536:
            raise NTalkerError(f"--port {self.port} is not possible; give 0 to 65535.")
