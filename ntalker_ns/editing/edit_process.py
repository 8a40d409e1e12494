"""An edit in its own process, for web pages: requests are validated; no field becomes a path or a shell word."""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ntalker_ns.editing.editor import check_instruction
from ntalker_ns.editing.editors import editor_config
from ntalker_ns.editing.plan import check_bounds
from ntalker_ns.editing.presets import load_preset, preset_names
from ntalker_ns.editing.progress import EditProgress
from ntalker_ns.errors import NTalkerError

OFFERED = ("filter", "style", "picture", "ip2p")
"""Editors that pages offer: those that need no further options."""
LONGEST = 300
"""Characters of an instruction."""
MOST_FRAMES, MOST_UPDATES = 500, 10
LARGEST_PICTURE = 16 << 20
"""Bytes."""
KINDS: dict[str, tuple[type, ...]] = {
    "instruction": (str,),
    "preset": (str, type(None)),
    "editor": (str,),
    "updates": (int,),
    "frames": (int, type(None)),
    "epochs": (int, type(None)),
}
"""Types of a request's fields."""
PATIENCE = 20.0
"""Seconds that a stopped edit has to save what it did, before it is killed."""
NS_TRAIN = (sys.executable, "-c", "from nerfstudio.scripts.train import entrypoint; entrypoint()")
"""The command of that name, in this environment."""


@dataclass(frozen=True)
class EditRequest:
    """A request to edit a head."""

    instruction: str = ""
    """In plain words; empty: the preset's, or none for a picture or a style."""
    preset: str | None = None
    """One of `preset_names`."""
    editor: str = "filter"
    """One of `OFFERED`."""
    guidance: tuple[float, float] | None = None
    """Lower and upper bound of the text guidance; None: the preset's or the paper's."""
    steps: tuple[int, int] | None = None
    """Lower and upper bound of the diffusion steps; None: the preset's or the paper's."""
    updates: int = 3
    """K."""
    frames: int | None = None
    """N; None: the method's."""
    epochs: int | None = None
    """On large patches; None: the method's."""
    picture: bytes | None = None
    """An edited frame, for the editor "picture"."""

    @classmethod
    def of(cls, wanted: Any, picture: bytes | None = None) -> "EditRequest":
        """A request from an untrusted client.

        Args:
            wanted: fields by name.
            picture: an uploaded file.

        Raises:
            NTalkerError: there is no such field, or it cannot have its value.
        """
        names = cls.__dataclass_fields__.keys() - {"picture"}
        if not isinstance(wanted, dict) or not wanted.keys() <= names:
            raise NTalkerError(f"An edit has {', '.join(sorted(names))}.")
        for name, value in wanted.items():
            if type(value) not in KINDS.get(name, (type(value),)):
                raise NTalkerError(f"{name} cannot be {value!r}.")
        pairs = {name: _pair(name, wanted[name]) for name in ("guidance", "steps") if wanted.get(name) is not None}
        request = cls(**{**wanted, **pairs}, picture=picture)
        request.check()
        return request

    def check(self) -> None:
        """
        Raises:
            NTalkerError: it cannot be done, in one sentence.
        """
        if self.editor not in OFFERED:
            raise NTalkerError(f"The editors are {', '.join(OFFERED)}.")
        if self.preset is not None and self.preset not in preset_names():
            raise NTalkerError(f"The presets are {', '.join(preset_names())}.")
        if len(self.instruction) > LONGEST:
            raise NTalkerError(f"An instruction is a text of up to {LONGEST} characters.")
        for name, least, most in (("updates", 1, MOST_UPDATES), ("frames", 2, MOST_FRAMES), ("epochs", 1, 1000)):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise NTalkerError(f"{name} is a whole number from {least} to {most}.")
        check_bounds(self.guidance or (1.0, 1.0), self.steps or (1, 1))
        if self.editor == "picture":
            if self.picture is None or len(self.picture) > LARGEST_PICTURE:
                raise NTalkerError(f"The editor picture needs a picture of at most {LARGEST_PICTURE >> 20} MiB.")
            return
        config = editor_config(self.editor)
        config.check(check_instruction(self.words or config.default_instruction()))

    @property
    def words(self) -> str:
        """The instruction, or the preset's."""
        given = self.instruction.strip()
        return given if given or self.preset is None else load_preset(self.preset).instruction

    def arguments(self, picture: Path) -> list[str]:
        """Of ns-train.

        Args:
            picture: where the picture is, if there is one.
        """
        arguments = [f"--instruction={self.words}", f"--edit.updates={self.updates}"]
        arguments += [] if self.preset is None else [f"--preset={self.preset}"]
        for name, pair in (("guidance", self.guidance), ("steps", self.steps)):
            arguments += [] if pair is None else [f"--edit.{name}", *map(str, pair)]
        arguments += [] if self.frames is None else [f"--edit.num-frames={self.frames}"]
        arguments += [] if self.epochs is None else [f"--edit.epochs={self.epochs}"]
        # A page's edit needs no weights that are not here: VGG where it is, EfficientNet otherwise.
        arguments += ["--pipeline.model.perceptual=None", f"editor:{self.editor}"]
        return arguments + ([f"--editor.picture={picture}"] if self.editor == "picture" else [])


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """Bounds as JSON has them."""
    kinds: tuple[type, ...] = (int, float) if name == "guidance" else (int,)
    if not isinstance(value, list | tuple) or len(value) != 2 or any(type(each) not in kinds for each in value):
        raise NTalkerError(f"{name} are two numbers, a lower and an upper bound.")
    return value[0], value[1]


def last_error(output: str) -> str | None:
    """The sentence of the last error that a command of ours printed; None, and its last lines on standard error, if it
    ended otherwise."""
    lines = output.splitlines()
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    if errors:
        return errors[-1]
    print("\n".join(lines[-20:]), file=sys.stderr)
    return None


@dataclass(frozen=True)
class EditBase:
    """The head that is edited."""

    checkpoint: Path
    method: str
    """ntalker-edit, or ntalker-edit-small."""
    output_dir: Path
    experiment: str


class EditProcess:
    """An edit that runs."""

    def __init__(self, base: EditBase, request: EditRequest) -> None:
        """Starts it.

        Args:
            base: the head.
            request: checked already.
        """
        self._files = tempfile.TemporaryDirectory(prefix="ntalker-edit-")
        picture, self._log = Path(self._files.name) / "picture.png", Path(self._files.name) / "log.txt"
        if request.picture is not None:
            picture.write_bytes(request.picture)
        time = f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"
        self.folder = base.output_dir / base.experiment / base.method / time
        """Its run folder."""
        self.request = request
        self.stopped = False
        """Whether `stop` ended it."""
        places = [f"--output-dir={base.output_dir}", f"--experiment-name={base.experiment}", f"--timestamp={time}"]
        command = [*NS_TRAIN, base.method, f"--base={base.checkpoint}", *places, "--vis=tensorboard"]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for the server, which then stops it.
            self._process = subprocess.Popen(
                command + request.arguments(picture),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        atexit.register(self.stop)

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._process.poll() is None

    @property
    def config(self) -> Path | None:
        """The finished run's config.yml."""
        return self.folder / "config.yml" if self._process.poll() == 0 else None

    def progress(self) -> EditProgress:
        """How far it is."""
        return EditProgress.read(self.folder / "edit") or EditProgress("Starting")

    def sheet(self) -> Path | None:
        """The newest contact sheet."""
        sheets = list((self.folder / "edit" / "sheets").glob("*.png"))
        return max(sheets, key=lambda path: path.stat().st_mtime, default=None)

    def failure(self) -> str | None:
        """Why it ended before its end, in one sentence; None: it did not."""
        if self.running or self._process.returncode == 0 or self.stopped:
            return None
        output = self._log.read_text("utf8", errors="replace")
        return last_error(output) or "The edit failed: its last messages are where this server was started."

    def left(self) -> str:
        """What a stopped edit has left behind, in a sentence."""
        checkpoints = self.folder / "nerfstudio_models"
        if not checkpoints.is_dir():
            return "Stopped; nothing is left of it."
        return f"Stopped. To go on: ns-train {self.folder.parent.name} --load-dir {checkpoints}"

    def stop(self) -> None:
        """Ends it: it saves what it did, unless that takes too long."""
        atexit.unregister(self.stop)
        if not self.running:
            return
        self.stopped = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(PATIENCE)
                return
            except subprocess.TimeoutExpired:
                continue
