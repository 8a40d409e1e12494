"""What the viewer's panel offers of a portrait: the background and the eyes."""

from collections.abc import Callable

from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerDropdown, ViewerSlider, ViewerText
from torch import nn

from ntalker_ns.background import HELP
from ntalker_ns.errors import NTalkerError

OTHER = "other"
BACKGROUNDS = ("plate", "white", "black", "lime", "transparent", OTHER)
EYES = ("replay", "blink", "fixed")


class PortraitControls(nn.Module):
    """Elements that nerfstudio's viewer finds because they are attributes of a module; it has no parameters.

    A transparent background is black in the viewer; the output `opacity` shows what it is.
    """

    def __init__(self, background: str, set_background: Callable[[str], None], set_eyes: Callable[[str], None]) -> None:
        """
        Args:
            background: the choice to begin with.
            set_background: takes a choice of background.
            set_eyes: takes `replay`, `blink` or an openness as text.
        """
        super().__init__()
        listed = background in BACKGROUNDS
        self._set_background, self._set_eyes = set_background, set_eyes
        self.background = ViewerDropdown(
            "Background", background if listed else OTHER, list(BACKGROUNDS), cb_hook=lambda _: self.show_background()
        )
        self.other_background = ViewerText(
            "Other background",
            "" if listed else background,
            cb_hook=lambda _: self.show_background(),
            hint=f"With 'other' above: {HELP}.",
        )
        self.eyes = ViewerDropdown("Eyes", "replay", list(EYES), cb_hook=lambda _: self.show_eyes())
        self.openness = ViewerSlider(
            "Eye openness", 1.0, 0.0, 1.0, 0.05, cb_hook=lambda _: self.show_eyes(), hint="With 'fixed' above."
        )

    def show_background(self) -> None:
        """Shows the background that the elements ask for; one that cannot be is named and changes nothing."""
        asked = self.other_background.value if self.background.value == OTHER else self.background.value
        if not asked:
            return
        try:
            self._set_background(asked)
        except NTalkerError as error:
            CONSOLE.print(f"[yellow]{error}[/yellow]")

    def show_eyes(self) -> None:
        """Shows the eyes that the elements ask for."""
        self._set_eyes(str(self.openness.value) if self.eyes.value == "fixed" else self.eyes.value)
