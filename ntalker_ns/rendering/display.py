"""How a head is shown: choices about pictures that leave the head as it is."""

from dataclasses import dataclass

from ntalker_ns.rendering.background import Background


@dataclass(frozen=True, eq=False)
class DisplayOptions:
    """Choices for a picture; None takes the run's own."""

    background: Background | None = None
    refinement_weight: float | None = None
    """Of an edited head, 0 to 1."""

    @property
    def transparent(self) -> bool:
        """Whether no background was chosen."""
        return self.background is not None and self.background.kind == "transparent"


RUN_DISPLAY = DisplayOptions()
"""Of training, evaluation and edits: nothing is chosen."""
