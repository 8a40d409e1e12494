"""What the viewer does when a user changes an element of its panel."""

from types import SimpleNamespace
from typing import Any


def choose(element: Any, value: Any) -> None:
    """Sets an element to a value and tells it so."""
    element.gui_handle = SimpleNamespace(value=value)
    if element.cb_hook is not None:
        element.cb_hook(element)
