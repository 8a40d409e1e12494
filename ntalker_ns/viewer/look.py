"""The elements of the panel for background, eyes, head motion and refinement."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ntalker_ns.driving.controls import controlled
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.rendering.background import Background
from ntalker_ns.rendering.display import DisplayOptions
from ntalker_ns.viewer.shown_head import Scene, ShownHead

COLOUR = "a colour"
BACKGROUNDS = {"as in the run": None, "as in the clip": "plate", "white": "white", "black": "black"}
"""Names of backgrounds that need no colour; the viewer would show a transparent one as black."""
EYES = {"as in the clip": "replay", "blinking": "blink"}
HELD = "held open"
FREE = "held still: drag to look around"
MOTION = {FREE: "still", "as in the clip": "replay", "swaying": "sway"}


class LookElements:
    """Background, eyes, head motion and, of an edited head, the refinement's weight."""

    def __init__(self, gui: Any, head: ShownHead, changed: Callable[[], None], moved: Callable[[], None]) -> None:
        """
        Args:
            gui: viser's; the elements go where others would now.
            head: whose display they set.
            changed: called when the picture changes.
            moved: called when eyes or motion change, see `scene`.
        """
        self._head, self._changed = head, changed
        self._background = gui.add_dropdown("Background", (*BACKGROUNDS, COLOUR), "as in the run")
        self._colour = gui.add_rgb("Colour", (47, 111, 79), visible=False)
        self._eyes = gui.add_dropdown("Eyes", (*EYES, HELD), "as in the clip")
        self._openness = gui.add_slider("Eye openness", 0.0, 1.0, 0.05, 1.0, visible=False)
        self._motion = gui.add_dropdown("Head", tuple(MOTION), FREE)
        self._weight = gui.add_slider("Refinement", 0.0, 1.0, 0.05, 0.8, visible=False)
        self.show_weight()
        for element in (self._background, self._colour, self._weight):
            element.on_update(lambda _: self._apply())
        for element in (self._eyes, self._openness, self._motion):
            element.on_update(lambda _: moved())

    def show_weight(self) -> None:
        """Shows the weight that another head was trained with, or hides it."""
        self._weight.visible = self._head.edited
        if self._head.edited:
            self._weight.value = float(self._head.refinement_weight)

    def scene(self, sequence: DrivingSequence, clip: DrivingSequence) -> Scene:
        """A sequence with the chosen eyes and head motion.

        Args:
            sequence: what the head says.
            clip: the head's own sequence.
        """
        self._openness.visible = self._eyes.value == HELD
        eyes = EYES.get(self._eyes.value) or f"{self._openness.value:g}"
        motion = self._motion.value if self._motion.value in MOTION else FREE
        return Scene(controlled(sequence, clip, eyes, MOTION[motion]), moves=motion != FREE)

    def _apply(self) -> None:
        name = self._background.value
        self._colour.visible = name == COLOUR
        wanted = BACKGROUNDS.get(name)
        background = None if wanted is None else Background.parse(wanted)
        if name == COLOUR:
            red, green, blue = (value / 255.0 for value in self._colour.value)
            background = Background("colour", (red, green, blue))
        weight = float(self._weight.value) if self._head.edited else None
        self._head.display = replace(DisplayOptions(), background=background, refinement_weight=weight)
        self._changed()
