"""Entries of an evaluation: runs, videos, and pictures made from a run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.footage import Exact, Reference
from ntalker_ns.run_folder import read_run

Pictures = Callable[[Any, Reference], Iterator[Exact]]
"""Makes a picture for each true frame, RGB in [0, 1], from a loaded run (`TalkerPipeline`)."""


@dataclass(frozen=True)
class Entry:
    """A run or a video to be scored."""

    name: str
    """Its name in the report."""
    path: Path
    """A run's config.yml, or a video."""
    refinement_weight: float | None = None
    """Weight of the refinement network in an edited head's pictures, 0 to 1; None is the run's own."""
    pictures: Pictures | None = None
    """Pictures made from the run and scored in its place; None for its own."""
    captions: tuple[str, str] | None = None
    """Captions before and after the edit; None takes those that an edited run records."""
    notes: tuple[str, ...] = ()
    """Caveats for the reader of the report."""

    @property
    def is_run(self) -> bool:
        """Whether it is a run, whose pictures are rendered here."""
        return self.path.suffix in (".yml", ".yaml")


def captions_of(entry: Entry) -> tuple[str, str] | None:
    """An entry's captions before and after an edit; None where there are none."""
    own_pictures = entry.is_run and entry.pictures is None
    return entry.captions or (recorded_captions(entry.path) if own_pictures else None)


def recorded_captions(config: Path) -> tuple[str, str] | None:
    """The captions that a run records; None where it is no edit or has none.

    Raises:
        NTalkerError: it is no run of ours.
    """
    captions = getattr(read_run(config.parent).config, "captions", None)
    return None if captions is None else tuple(captions)


def base_of(config: Path) -> Path | None:
    """The config.yml of the run that a run is an edit of, whether it is still there or not; None for no edit.

    Args:
        config: the run's config.yml.

    Raises:
        NTalkerError: it is no run of ours.
    """
    checkpoint = getattr(read_run(config.parent).config, "base", None)
    return None if checkpoint is None else Path(checkpoint).parent.parent / "config.yml"


def common_base(configs: Iterable[Path]) -> Path | None:
    """The config.yml of the run that all edits among some runs start from; None where none of them is an edit.

    Args:
        configs: the runs' config.yml, in any order.

    Raises:
        NTalkerError: the edits start from different runs, or one is no run of ours.
    """
    edits = [(config, base) for config in configs if (base := base_of(config)) is not None]
    if not edits:
        return None
    first, common = edits[0]
    for config, base in edits:
        if base.resolve() != common.resolve():
            raise NTalkerError(
                f"{first} is an edit of {common}, {config} of {base}: evaluate them one by one, or give --base."
            )
    return common
