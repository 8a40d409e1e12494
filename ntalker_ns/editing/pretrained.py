"""What editors with pretrained diffusion weights have in common: options, loading, resizing."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.errors import NTalkerError

Precision = Literal["auto", "fp32", "fp16", "bf16"]
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class PretrainedEditorConfig(EditorConfig):
    """An editor that runs a diffusers pipeline."""

    model: str = ""
    """Folder or hub id of a diffusers pipeline."""
    image_guidance: float = 1.5
    """Image guidance scale: higher values keep the result closer to the frame. Pipelines without one ignore it."""
    size: int | None = None
    """Longest side in px to which frames are resized for the editor, and back afterwards; None: no resizing."""
    precision: Precision = "auto"
    """Floating-point type of the weights; auto: fp16 on a GPU, fp32 on a CPU."""
    device: str | None = None
    """Device of the editor, such as cuda:1; None: that of the head."""
    save_memory: bool = False
    """Run slower in less GPU memory: decode one picture at a time with sliced attention (ip2p), or keep only the active
    part of the model on the GPU (diffusers)."""

    def check(self, instruction: str) -> None:
        """Any instruction will do; a local model must be a diffusers pipeline."""
        super().check(instruction)
        check_model(self.model)

    def device_for(self, frames: torch.device) -> torch.device:
        """The editor's device for frames on a device."""
        return torch.device(self.device) if self.device else frames

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """The floating-point type of the weights on a device."""
        if self.precision == "auto":
            return torch.float16 if device.type == "cuda" else torch.float32
        return _TYPES[self.precision]


Config = TypeVar("Config", bound=PretrainedEditorConfig)


class PretrainedEditor(Generic[Config]):
    """An editor whose pipeline is loaded at its first edit."""

    def __init__(self, config: Config) -> None:
        """
        Args:
            config: the pipeline and how it is run; nothing is loaded yet.
        """
        self.config = config
        self.pipeline: Any = None

    def load(self, device: torch.device) -> Any:
        """Loads the pipeline.

        Args:
            device: of the frames.

        Raises:
            NTalkerError: it cannot be loaded, or cannot edit.
        """
        raise NotImplementedError

    def loaded(self, device: torch.device) -> Any:
        """The pipeline, loaded by the first call."""
        if self.pipeline is None:
            self.pipeline = self.load(device)
        return self.pipeline

    def edits_original(self, device: torch.device) -> bool:
        """See `Editor.edits_original`."""
        return False

    def unload(self) -> None:
        """See `Editor.unload`."""
        self.pipeline = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_model(model: str) -> None:
    """Checks a model as far as possible without loading it.

    Args:
        model: a folder, or a hub id.

    Raises:
        NTalkerError: it is a local path, but no diffusers pipeline.
    """
    local = Path(model).expanduser()
    if local.exists() and not (local / "model_index.json").is_file():
        raise NTalkerError(f"{local} is not a diffusers pipeline (no model_index.json): check --editor.model.")


def load_pipeline(kind: Any, model: str, dtype: torch.dtype, **options: Any) -> Any:
    """Loads a diffusers pipeline, from disk if possible.

    Args:
        kind: a diffusers pipeline class.
        model: a folder, or a hub id in the cache or to be downloaded.
        dtype: of its weights.
        options: more arguments of `from_pretrained`.

    Raises:
        NTalkerError: there is no such pipeline, or it cannot be downloaded.
    """
    check_model(model)
    local = Path(model).expanduser()
    name = str(local) if local.exists() else model
    try:
        try:
            return _from_pretrained(kind, name, torch_dtype=dtype, local_files_only=True, **options)
        except (OSError, ValueError):
            if local.exists():
                raise
            return _from_pretrained(kind, name, torch_dtype=dtype, **options)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NTalkerError(
            f"The editor '{model}' cannot be loaded ({reason}): give --editor.model the folder of a pipeline or the id "
            "of a model that can be downloaded, or use editor:filter, which needs no weights."
        ) from error


def _from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        # Newer releases name the argument dtype; the older ones that we support only know this name.
        warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
        pipeline = kind.from_pretrained(name, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def working_size(size: Sequence[int], longest: int | None, multiple: int) -> tuple[int, int]:
    """Height and width for an editor that requires multiples of a number of px.

    Args:
        size: height and width of the frames.
        longest: longest side in px; None: the frames'.
        multiple: both sides are multiples of it.
    """
    scale = 1.0 if longest is None else longest / max(size)
    height, width = (max(round(side * scale / multiple), 1) * multiple for side in size)
    return height, width


def resized(frames: Float[Tensor, "n 3 h w"], size: Sequence[int]) -> Float[Tensor, "n 3 new_h new_w"]:
    """Frames in [0, 1] at another height and width, with antialiasing."""
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    scaled = functional.interpolate(frames, size=tuple(size), mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0.0, 1.0)
