"""Weights of diffusion models: found on disk or fetched, or a sentence that says what to do."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch

from ntalker_ns.errors import NTalkerError

Precision = Literal["auto", "fp32", "fp16", "bf16"]
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def precision_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The floating-point type that a precision means on a device: half on a GPU by default, single on a CPU."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _TYPES[precision]


def check_model(model: str) -> None:
    """Checks what can be seen of a model without loading it.

    Args:
        model: a folder, or a hub id.

    Raises:
        NTalkerError: it is a folder or file that holds no pipeline.
    """
    local = Path(model).expanduser()
    if local.exists() and not (local / "model_index.json").is_file():
        raise NTalkerError(f"{local} is not a diffusers pipeline (no model_index.json): check --editor.model.")


def load_pipeline(kind: Any, model: str, dtype: torch.dtype, **options: Any) -> Any:
    """A diffusers pipeline, from disk where it is there.

    Args:
        kind: a diffusers pipeline class.
        model: a folder, or a hub id in the cache or to be downloaded.
        dtype: of its weights.
        options: more for `from_pretrained`.

    Raises:
        NTalkerError: there is no such pipeline, or it cannot be fetched.
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
            f"The editor '{model}' cannot be loaded ({reason}): give --editor.model a folder that holds it or the id "
            "of a model that can be downloaded, or take editor:filter, which needs no weights."
        ) from error


def _from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        # Newer releases call it dtype; the older ones that are allowed too know only this name.
        warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
        pipeline = kind.from_pretrained(name, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
