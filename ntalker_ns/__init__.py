"""Audio-driven, instruction-edited talking radiance fields for nerfstudio.

Examples:
    >>> import ntalker_ns as nt
    >>> head = nt.load_head(run)
    >>> frames = [frame for frame in head.say(speech, size=16)]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntalker_ns.capture.process import process_clip
    from ntalker_ns.errors import NTalkerError
    from ntalker_ns.runs import Head, Speech, edit, load_head, train

__version__ = "0.2.0"
__all__ = ["Head", "NTalkerError", "Speech", "__version__", "edit", "load_head", "process_clip", "train"]

_HOMES = {"process_clip": "capture.process", "NTalkerError": "errors"}


def __getattr__(name: str) -> Any:
    """Imports a public name where it is first used: every `ns-*` command imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'runs')}"), name)
