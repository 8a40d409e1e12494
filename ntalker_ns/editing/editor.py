"""What an editor is: pictures and an instruction in, edited pictures out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from jaxtyping import Float
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError


class Editor(Protocol):
    """Edits pictures as an instruction says.

    What a picture becomes depends on it, its seed and the rest of the request, never on the pictures beside it in the
    batch: frames can be divided over processes, and an edit that was broken off goes on with the same result.
    """

    def check(self, instruction: str) -> None:
        """Says before any work is done whether this editor can follow an instruction; loads nothing.

        Raises:
            NTalkerError: it cannot.
        """
        ...

    def describe(self, instruction: str) -> str:
        """What edits the frames and how it reads guidance and steps, in a sentence for the log."""
        ...

    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """Edits some frames.

        Args:
            frames: [0, 1]; what the edit starts from.
            instruction: what to change, in plain words.
            strength: how much.
            seeds: of each frame's noise; equal seeds give equal noise.
            conditions: [0, 1]; the pictures that the result has to stay close to. None: the frames themselves.

        Returns:
            [0, 1], of the frames' size and on their device.
        """
        ...

    def unload(self) -> None:
        """Lets go of weights and memory; the next edit loads them again."""
        ...


HOW_IT_RUNS = frozenset({"_target", "batch_size", "precision", "device", "save_memory"})
"""Fields of an editor's configuration that say how it is run, and not what it makes of a picture, but for rounding."""


@dataclass
class EditorConfig(InstantiateConfig):
    """Which editor, and how it is run."""

    _target: type = field(default_factory=lambda: no_editor)  # type: ignore[assignment]
    batch_size: int = 1
    """Frames edited at a time."""

    def settings(self) -> dict[str, Any]:
        """What edited pictures depend on, by name: frames of one edit have to agree in it."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in HOW_IT_RUNS}


def no_editor(config: Any, **kwargs: Any) -> Editor:
    """Stands where a configuration names no editor.

    Raises:
        NTalkerError: always.
    """
    raise NTalkerError("No editor is chosen: end the command with editor:ip2p, editor:diffusers or editor:filter.")


def check_instruction(instruction: str) -> str:
    """An instruction without blanks around it.

    Raises:
        NTalkerError: nothing is left.
    """
    stripped = instruction.strip()
    if not stripped:
        raise NTalkerError(
            'There is no instruction: say what to change with --instruction "Make her look like a bronze statue", or '
            "take one with --preset."
        )
    return stripped
