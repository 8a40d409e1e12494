"""What the viewer's panel shows: choices about pictures that leave the head as it is."""

from dataclasses import dataclass

from ntalker_ns.rendering.background import Background
from ntalker_ns.training.transfers import DeviceCopy


@dataclass(frozen=True, eq=False)
class DisplayOptions:
    """Choices for a picture; None takes the run's own."""

    background: Background | None = None
    eyes: DeviceCopy | None = None
    """Openness of the eyes in each frame of the driving sequence, 0 closed to 1 open."""
    refinement_weight: float | None = None
    """Of an edited head, 0 to 1."""


RUN_DISPLAY = DisplayOptions()
"""Of training, evaluation and edits: nothing is chosen."""
