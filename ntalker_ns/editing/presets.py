"""Instruction presets: YAML files with an instruction, captions of before and after, and bounds."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ntalker_ns.errors import NTalkerError

FOLDER = Path("configs") / "instructions"
"""Folder of the presets, in the package and in the repository."""


@dataclass(frozen=True)
class EditPreset:
    """An instruction with captions and bounds that work for it."""

    instruction: str
    """What to change."""
    caption_before: str
    """Caption of the unedited picture, for the CLIP direction metric."""
    caption_after: str
    """Caption of the edited picture."""
    guidance: tuple[float, float] | None = None
    """Lower and upper bound of the text guidance scale; None: the paper's."""
    steps: tuple[int, int] | None = None
    """Lower and upper bound of the diffusion steps; None: the paper's."""


def load_preset(name: str) -> EditPreset:
    """Loads one of our presets by name, or a user's file.

    Args:
        name: such as "bronze-statue", or the path of a YAML file.

    Raises:
        NTalkerError: there is no such preset, or it is invalid.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = presets_folder() / f"{name}.yaml"
        if not path.is_file():
            raise NTalkerError(
                f"There is no preset '{name}': choose from {', '.join(preset_names())}, or give a YAML file."
            )
    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NTalkerError(f"The preset {path} cannot be read ({' '.join(str(error).split())}).") from error
    return _preset_of(content, path)


def preset_names() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def presets_folder() -> Path:
    """The folder of our presets.

    Raises:
        NTalkerError: the installation lacks them.
    """
    package = Path(__file__).parents[1]
    # An installed package contains them; a checkout without symbolic links has them beside the package.
    for folder in (package / FOLDER, package.parent / FOLDER):
        if folder.is_dir():
            return folder
    raise NTalkerError(f"The presets are missing from this installation ({package / FOLDER}): reinstall ntalker_ns.")


def _preset_of(content: Any, path: Path) -> EditPreset:
    known = [field.name for field in fields(EditPreset)]
    if not isinstance(content, dict):
        raise NTalkerError(f"The preset {path} has no fields: it needs {', '.join(known[:3])}.")
    unknown = content.keys() - set(known)
    missing = set(known[:3]) - content.keys()
    if unknown or missing:
        reason = (
            f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown {', '.join(sorted(map(str, unknown)))}"
        )
        raise NTalkerError(f"The preset {path} {reason}; its fields are {', '.join(known)}.")
    texts = {name: _text(content, name, path) for name in known[:3]}
    return EditPreset(
        **texts,
        guidance=_bounds(content, "guidance", float, "numbers", path),
        steps=_bounds(content, "steps", int, "whole numbers", path),
    )


def _text(content: dict[str, Any], name: str, path: Path) -> str:
    text = content[name]
    if not isinstance(text, str) or not text.strip():
        raise NTalkerError(f"The preset {path} needs a text for {name}, not {text!r}: put it in quotes.")
    return text.strip()


def _bounds(content: dict[str, Any], name: str, kind: type, called: str, path: Path) -> Any:
    """A lower and an upper bound, or None if the preset has none."""
    values = content.get(name)
    if values is None:
        return None
    # By type: isinstance would accept YAML's true and false as integers.
    pair = isinstance(values, list) and len(values) == 2 and all(type(value) in (int, kind) for value in values)
    if not pair or not 1 <= values[0] <= values[1] < math.inf:
        raise NTalkerError(
            f"The preset {path} needs two {called} for {name}, a lower bound of at least 1 and an upper bound, not "
            f"{values}."
        )
    return kind(values[0]), kind(values[1])
