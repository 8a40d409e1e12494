"""What is scored: runs, videos, and pictures that are made out of a run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.evaluation.footage import Exact, Reference

Pictures = Callable[[Any, Reference], Iterator[Exact]]
"""Makes a picture for each true frame, RGB in [0, 1], out of a loaded run (`TalkerPipeline`)."""


@dataclass(frozen=True)
class Entry:
    """A run or a video to be scored."""

    name: str
    """What the report calls it."""
    path: Path
    """A run's config.yml, or a video."""
    refinement_weight: float | None = None
    """The refinement network's share in an edited head's pictures, 0 to 1; None is the run's own."""
    pictures: Pictures | None = None
    """What is made out of the run and scored in its place; None for its own pictures."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know."""

    @property
    def is_run(self) -> bool:
        """Whether its pictures are made here."""
        return self.path.suffix in (".yml", ".yaml")
