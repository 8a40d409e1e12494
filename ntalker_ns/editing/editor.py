"""The interface of editors: pictures and an instruction in, edited pictures out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError


@runtime_checkable
class Editor(Protocol):
    """Edits pictures by an instruction.

    The result for a picture depends on that picture, its seed and the request, never on the rest of the batch: frames
    can be divided over processes, and an interrupted edit resumes with the same result.
    """

    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """Edits a batch of frames.

        Args:
            frames: [0, 1]; the pictures that the edit starts from.
            instruction: what to change, in plain words.
            strength: guidance and diffusion steps.
            seeds: one for each frame's noise; equal seeds give equal noise.
            conditions: [0, 1]; the image condition of the editor. None: the frames themselves.

        Returns:
            [0, 1], of the frames' size and on their device.
        """
        ...

    def unload(self) -> None:
        """Frees weights and memory; the next edit loads them again."""
        ...


EXECUTION_FIELDS = frozenset({"_target", "batch_size", "precision", "device", "save_memory"})
"""Fields of an editor's configuration that affect how it runs, but not its results beyond rounding."""


@dataclass
class EditorConfig(InstantiateConfig):
    """An editor; `setup` makes it without loading its weights."""

    batch_size: int = 1
    """Frames edited at a time."""

    def check(self, instruction: str) -> None:
        """Checks, without loading anything, that this editor can follow an instruction.

        Raises:
            NTalkerError: it cannot.
        """
        check_instruction(instruction)

    def describe(self, instruction: str) -> str:
        """The editor and its use of guidance and steps, in one sentence for the log."""
        raise NotImplementedError

    def result_settings(self) -> dict[str, Any]:
        """The settings that edited pictures depend on, by name: they must not change within an edit."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in EXECUTION_FIELDS}


def check_instruction(instruction: str) -> str:
    """An instruction without surrounding blanks.

    Raises:
        NTalkerError: it is empty.
    """
    stripped = instruction.strip()
    if not stripped:
        raise NTalkerError(
            'There is no instruction: give --instruction "Make her look like a bronze statue", or choose a --preset.'
        )
    return stripped
