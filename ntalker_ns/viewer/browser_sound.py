"""Sound in the browser of nerfstudio's viewer.

viser has no element for sound, but its markdown is MDX, which may hold HTML elements and expressions: an audio element
with the sound in its address, and orders to it. Text of others goes into such markdown through `plain` only.
"""

import base64
import json
from typing import Any

import numpy as np
from jaxtyping import Float32

from ntalker_ns.media.sound import wav_bytes

APART = 0.08
"""Seconds by which the browser's sound may be off before it is set right."""


class BrowserSound:
    """One sound, played and paused in all browsers together."""

    def __init__(self, gui: Any) -> None:
        """
        Args:
            gui: viser's; the elements, which are invisible, go where others would now.
        """
        self._element, self._order = gui.add_markdown(""), gui.add_markdown("")
        self._name, self._orders = 0, 0

    def load(self, waveform: Float32[np.ndarray, " samples"] | None) -> None:
        """Takes another sound, mono at 16 kHz; None: silence."""
        self._order.content = ""
        self._name += 1
        self._element.content = "" if waveform is None else audio_element(f"ntalker-sound-{self._name}", waveform)

    def play(self, seconds: float) -> None:
        """Plays from a position on; where it plays there already, it plays on."""
        self._tell(
            f"const at = {seconds:.3f} + (performance.now() - begin) / 1000; "
            f"if (a.paused || Math.abs(a.currentTime - at) > {APART}) a.currentTime = Math.min(at, a.duration || at); "
            "a.play()"
        )

    def pause(self) -> None:
        """Stops."""
        self._tell("a.pause()")

    def _tell(self, order: str) -> None:
        self._orders += 1
        # The element appears when the sound has arrived, which may be later than the order.
        self._order.content = (
            "<span ref={(shown) => { if (!shown) return; const begin = performance.now(); "
            f"const order = {self._orders}; window.ntalkerOrder = order; "
            "const go = (tries) => { if (window.ntalkerOrder !== order) return; "
            f'const a = document.getElementById("ntalker-sound-{self._name}"); '
            f"if (a) {{ {order} }} else if (tries) setTimeout(() => go(tries - 1), 50) }}; go(200) }}}} />"
        )


def audio_element(name: str, waveform: Float32[np.ndarray, " samples"]) -> str:
    """An audio element of a page that holds its sound as a wav file.

    Args:
        name: by which the page finds it.
        waveform: mono, 16 kHz.
    """
    content = base64.b64encode(wav_bytes(waveform)).decode()
    return f'<audio id="{name}" preload="auto" src="data:audio/wav;base64,{content}" />'


def picture_element(jpeg: bytes) -> str:
    """A picture of a page, as wide as there is room."""
    return f'<img style={{{{width: "100%"}}}} src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" />'


def plain(text: str) -> str:
    """Any text as markdown that shows it as it is: neither markdown, nor HTML, nor code, nor the path of a picture."""
    quoted = json.dumps(text)
    for sign in "!<>[](){}":
        quoted = quoted.replace(sign, f"\\u{ord(sign):04x}")
    return f"{{{quoted}}}"
