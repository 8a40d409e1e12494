"""The choice of a backend: what runs on which device, and what "auto" takes."""

import importlib
import os
from typing import Literal

from ntalker_ns.errors import NTalkerError

Backend = Literal["auto", "reference", "numba", "triton", "tcnn"]
"""What computes all operations: plain torch, numba (CPU), Triton or tiny-cuda-nn (CUDA); "auto" takes the fastest."""

_REQUIREMENTS: dict[Backend, tuple[str, str]] = {
    "numba": ("numba", "cpu"),
    "triton": ("triton", "cuda"),
    "tcnn": ("tinycudann", "cuda"),
}
"""The library that a backend needs, and the kind of device it runs on."""


def unavailable(backend: Backend, device_type: str) -> str | None:
    """Why a backend cannot be used on a kind of device; None where it can.

    Args:
        backend: the backend.
        device_type: as in `torch.device.type`.
    """
    if backend not in _REQUIREMENTS:
        return None
    library, required = _REQUIREMENTS[backend]
    # Triton's interpreter, which is for tests, takes tensors on the CPU.
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if device_type != required and not interpreted:
        return f"it runs on {required}, not on {device_type}"
    try:
        importlib.import_module(library)
    except Exception as error:  # tiny-cuda-nn raises errors of several kinds where it does not fit torch or the GPU
        return f"{library} cannot be imported ({error})"
    return None


def automatic_backend(device_type: str) -> Backend:
    """The fastest backend for a kind of device.

    Args:
        device_type: as in `torch.device.type`.
    """
    if device_type == "cpu":
        return "numba"
    return "reference" if unavailable("triton", device_type) else "triton"


def resolve_backend(backend: Backend, device_type: str) -> Backend:
    """The backend that "auto" stands for, or the given one.

    Args:
        backend: the one that is requested.
        device_type: as in `torch.device.type`.

    Raises:
        NTalkerError: it does not run there.
    """
    chosen = automatic_backend(device_type) if backend == "auto" else backend
    if reason := unavailable(chosen, device_type):
        raise NTalkerError(f'The backend "{chosen}" cannot be used here: {reason}; use "auto".')
    return chosen
