"""What the viewer's panel shows: choices about pictures that leave the head as it is."""

from dataclasses import dataclass

from ntalker_ns.rendering.background import Background


@dataclass(frozen=True, eq=False)
class DisplayOptions:
    """Choices for a picture; None takes the run's own."""

    background: Background | None = None
    refinement_weight: float | None = None
    """Of an edited head, 0 to 1."""


RUN_DISPLAY = DisplayOptions()
"""Of training, evaluation and edits: nothing is chosen."""
