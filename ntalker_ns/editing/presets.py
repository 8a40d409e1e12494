"""Instruction presets: YAML files with an instruction, captions of before and after, and bounds."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ntalker_ns.errors import NTalkerError

FOLDER = Path("configs") / "instructions"
"""Where the presets lie, in the package and in the repository."""


@dataclass(frozen=True)
class EditPreset:
    """An edit that somebody has found words for."""

    instruction: str
    """What to change."""
    caption_before: str
    """What a picture shows before the edit, for the CLIP direction metric."""
    caption_after: str
    """What it shows afterwards."""
    guidance: tuple[float, float] | None = None
    """Lower and upper bound of the text guidance scale; None for the method's own."""
    steps: tuple[int, int] | None = None
    """Lower and upper bound of the diffusion steps; None for the method's own."""


def load_preset(name: str) -> EditPreset:
    """A preset of ours by name, or a file of one's own.

    Args:
        name: such as "bronze-statue", or the path of a YAML file.

    Raises:
        NTalkerError: there is no such preset, or it cannot be used.
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
    """Where the presets of the package lie.

    Raises:
        NTalkerError: the installation lacks them.
    """
    package = Path(__file__).parents[1]
    # Installed, they lie in the package; in a checkout without symbolic links only beside it.
    for place in (package / FOLDER, package.parent / FOLDER):
        if place.is_dir():
            return place
    raise NTalkerError(f"The presets are missing from this installation ({package / FOLDER}): install it again.")


def _preset_of(content: Any, path: Path) -> EditPreset:
    known = [field.name for field in fields(EditPreset)]
    if not isinstance(content, dict):
        raise NTalkerError(f"The preset {path} holds no fields: give it {', '.join(known[:3])}.")
    unknown = content.keys() - set(known)
    missing = set(known[:3]) - content.keys()
    if unknown or missing:
        reason = (
            f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown {', '.join(sorted(map(str, unknown)))}"
        )
        raise NTalkerError(f"The preset {path} {reason}; its fields are {', '.join(known)}.")
    words = {name: _words(content, name, path) for name in known[:3]}
    return EditPreset(
        **words,
        guidance=_bounds(content, "guidance", float, "numbers", path),
        steps=_bounds(content, "steps", int, "whole numbers", path),
    )


def _words(content: dict[str, Any], name: str, path: Path) -> str:
    words = content[name]
    if not isinstance(words, str) or not words.strip():
        raise NTalkerError(f"The preset {path} needs words for {name}, not {words!r}: write them in quotes.")
    return words.strip()


def _bounds(content: dict[str, Any], name: str, kind: type, called: str, path: Path) -> Any:
    """A lower and an upper bound, or None where the preset has none."""
    values = content.get(name)
    if values is None:
        return None
    # By type, not isinstance: YAML's true and false count as whole numbers there.
    pair = isinstance(values, list) and len(values) == 2 and all(type(value) in (int, kind) for value in values)
    if not pair or not 1 <= values[0] <= values[1] < math.inf:
        raise NTalkerError(
            f"The preset {path} needs two {called} for {name}, a lower bound of at least 1 and an upper bound, not "
            f"{values}."
        )
    return kind(values[0]), kind(values[1])
