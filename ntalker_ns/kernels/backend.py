"""The backends: what each has, where it runs, and which one "auto" takes.

To add one: its name, its requirements and its operations here, and a folder of modules named like those of
`kernels.reference`.
"""

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

MODULES = {
    "encode": "hash_grid",
    "run_mlp": "mlp",
    "gate": "warp",
    "inverse_warp": "warp",
    "correct_poses": "poses",
    "spherical_harmonics": "harmonics",
    "fused_field": "field",
    "intersect_box": "marching",
    "march": "marching",
    "incremental_march": "marching",
    "march_to_capacity": "marching",
    "points_along": "marching",
    "composite": "compositing",
    "add_samples": "compositing",
    "mark_visible": "occupancy",
    "squared_distance": "surface",
    "rasterise": "splats",
    "moved_picture": "portrait",
    "portrait_frame": "portrait",
}
"""Operations, and the module of a backend that has them."""

KERNELS: dict[Backend, frozenset[str]] = {
    "numba": frozenset(MODULES) - {"spherical_harmonics", "march_to_capacity"},
    "triton": frozenset(MODULES) - {"fused_field", "points_along", "moved_picture", "portrait_frame"},
    "tcnn": frozenset({"encode", "run_mlp"}),
    "reference": frozenset(MODULES) - {"fused_field"},
}
"""The operations that each backend has."""

FALLBACKS: dict[Backend, tuple[Backend, ...]] = {
    "tcnn": ("triton", "reference"),
    "triton": ("reference",),
    "numba": ("reference",),
    "reference": (),
}
"""Which backends stand in, in this order, for operations that one lacks, and for inputs that its kernel does not accept
(such as float64): where a module has a function `accepts_OPERATION`, its kernel takes only what that accepts."""


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
