"""The heads that a live server shows: the one it was started with, and what edits made of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.editing.edit_process import EditBase
from ntalker_ns.errors import NTalkerError
from ntalker_ns.live.engine import Engine
from ntalker_ns.live.pictures import HeadPictures
from ntalker_ns.run_folder import edit_base, load_run, read_config


@dataclass(frozen=True, eq=False)
class LiveHead:
    """A head that can be shown."""

    name: str
    run: Path
    """Its run folder."""
    pictures: Any
    """See `Pictures`."""


class LiveHeads:
    """The heads of one person; all sessions see the same one."""

    def __init__(self, engine: Engine, run: Path, load: "Callable[[Path], Any] | None" = None) -> None:
        """
        Args:
            engine: shows the first head.
            run: the folder of its run.
            load: gives the model of a run folder.
        """
        self._engine = engine
        self._load = load or (lambda folder: load_run(folder / "config.yml").model)
        self.heads = [LiveHead("as loaded", run, engine.pictures)]
        self.shown = 0
        """Which of them is shown."""

    def compare_with_base(self) -> None:
        """Loads the base of an edited head, where it is still there, so that both can be compared."""
        base = getattr(read_config(self.heads[0].run / "config.yml"), "base", None)
        folder = None if base is None else Path(base).parent.parent
        if folder is None or not (folder / "config.yml").is_file():
            return
        first = self.heads[0].pictures
        first.before = HeadPictures(self._load(folder), self._engine.stage, self._engine.speed.size)

    @property
    def names(self) -> list[str]:
        """In the order in which they were made."""
        return [head.name for head in self.heads]

    @property
    def edited(self) -> bool:
        """Whether the shown one has a refinement network."""
        return self._engine.pictures.edited

    @property
    def has_before(self) -> bool:
        """Whether the head before the edit is there, to be compared with."""
        return self._engine.pictures.before is not None

    def base(self) -> EditBase:
        """The shown head as the base of an edit.

        Raises:
            NTalkerError: its run is not there any more.
        """
        return edit_base(self.heads[self.shown].run)

    def portrait(self) -> bytes:
        """A picture of the shown head, as JPEG."""
        return self._engine.portrait()

    def add(self, run: Path, name: str, of: int) -> None:
        """Loads an edited head, and shows it instead.

        Args:
            run: the folder of its run.
            name: of it.
            of: which head was edited.
        """
        before = self.heads[of].pictures
        pictures = HeadPictures(self._load(run), self._engine.stage, self._engine.speed.size, before)
        self.heads.append(LiveHead(name, run, pictures))
        self.show(len(self.heads) - 1)

    def show(self, index: Any) -> None:
        """Shows one of them.

        Raises:
            NTalkerError: there is no such head.
        """
        if type(index) is not int or not 0 <= index < len(self.heads):
            raise NTalkerError(f"There are heads 0 to {len(self.heads) - 1}.")
        self.shown = index
        self._engine.pictures = self.heads[index].pictures
