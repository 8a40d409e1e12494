"""`ntalker view`: a run in nerfstudio's viewer, for this machine alone."""

from dataclasses import dataclass
from pathlib import Path

from ntalker_ns.errors import NTalkerError


@dataclass
class View:
    """Look at a trained head in nerfstudio's viewer: play sounds, look around, edit it, write videos."""

    load_config: Path
    """The run's config.yml."""
    sounds: Path | None = None
    """Folder of sound files to choose from, beside those in the data set's folder and the one above it."""
    host: str = "127.0.0.1"
    """Address to listen on. The viewer has no authentication: use another address only where you trust everybody
    who can reach it."""
    port: int = 7007
    """Port to listen on."""

    def main(self) -> None:
        """Loads the run and shows it until it is interrupted."""
        from nerfstudio.configs.base_config import ViewerConfig
        from nerfstudio.scripts.viewer import run_viewer

        from ntalker_ns.run_folder import read_run
        from ntalker_ns.runs import load_run

        if self.sounds is not None and not self.sounds.is_dir():
            raise NTalkerError(f"There is no folder at '{self.sounds}': check --sounds.")
        if not 0 < self.port < 65536:
            raise NTalkerError(f"--port {self.port} is not possible; give 1 to 65535.")
        pipeline = load_run(self.load_config)
        pipeline.talking_head.sounds = self.sounds or pipeline.talking_head.sounds
        run = read_run(self.load_config.resolve().parent)
        run.config.vis = "viewer"
        run.config.viewer = ViewerConfig(websocket_host=self.host, websocket_port=self.port)
        # Wherever the run lies now.
        run.config.get_base_dir = lambda: run.folder
        run_viewer._start_viewer(run.config, pipeline, run.steps - 1)
