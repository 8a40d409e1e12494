"""The interface of editors: pictures and an instruction in, edited pictures out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.views import FrameView, RenderView
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

    def edits_original(self, device: torch.device) -> bool:
        """Whether its image condition is the frame before the edit in every update, not the head as it is now.

        Args:
            device: of the frames.
        """
        return False

    def unload(self) -> None:
        """Frees weights and memory; the next edit loads them again."""
        ...


@runtime_checkable
class SurfaceEditor(Protocol):
    """Edits frames by what is known of the head's surface: which point of it each pixel shows."""

    def prepare(self, render_view: RenderView, driving: DrivingSequence, size: int, folder: Path) -> None:
        """Makes ready, before the first training step or where an interrupted edit is resumed.

        Args:
            render_view: renders frames. Before the first step this is the unedited head; what depends on it is stored.
            driving: drives the head.
            size: longest side of the frames that are edited, px.
            folder: of stored files.
        """
        ...

    def edit_views(
        self, frames: Float32[np.ndarray, "n h w 3"], views: Sequence[FrameView]
    ) -> Float32[np.ndarray, "n h w 3"]:
        """Edits a batch of frames.

        Args:
            frames: [0, 1]; from the head as it is now.
            views: the same frames of the unedited head.

        Returns:
            RGB in [0, 1].
        """
        ...

    def unload(self) -> None:
        """See `Editor.unload`."""
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

    def default_instruction(self) -> str:
        """What stands in place of an instruction where none is given; empty: one is needed."""
        return ""

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
