"""The editors by name."""

from typing import Annotated, Any, get_args

import tyro

from ntalker_ns.editing.diffusers_editor import DiffusersEditorConfig
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.instruct_pix2pix import InstructPix2PixConfig
from ntalker_ns.editing.picture_editor import PictureEditorConfig
from ntalker_ns.editing.style_transfer import StyleEditorConfig
from ntalker_ns.errors import NTalkerError

AnyEditorConfig = (
    Annotated[InstructPix2PixConfig, tyro.conf.subcommand("ip2p")]
    | Annotated[DiffusersEditorConfig, tyro.conf.subcommand("diffusers")]
    | Annotated[FilterEditorConfig, tyro.conf.subcommand("filter")]
    | Annotated[StyleEditorConfig, tyro.conf.subcommand("style")]
    | Annotated[PictureEditorConfig, tyro.conf.subcommand("picture")]
)
"""At the end of a command: `editor:` and a name, followed by its options. Another editor is one more line here."""
EDITORS: dict[str, Any] = {kind.__metadata__[0].name: kind.__origin__ for kind in get_args(AnyEditorConfig)}
"""The subclasses of `EditorConfig` by name."""


def editor_config(name: str) -> Any:
    """The default configuration of an editor.

    Args:
        name: one of `EDITORS`.

    Raises:
        NTalkerError: there is no such editor.
    """
    if name not in EDITORS:
        raise NTalkerError(f"There is no editor '{name}': choose from {', '.join(EDITORS)}.")
    return EDITORS[name]()
