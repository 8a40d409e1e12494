"""The one dispatch: every operation of the head, bound to a backend once and handed down from the model.

The reference implementations in plain torch (`kernels.reference`) are the specification: their signatures and
docstrings are those of the operations, and each backend's kernel has the same name in a module of the same name.
`kernels.backend` says which backend has which.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.backend import FALLBACKS, KERNELS, MODULES, Backend, resolve_backend, unavailable
from ntalker_ns.kernels.ragged import RayInputs
from ntalker_ns.kernels.reference import (
    compositing,
    harmonics,
    hash_grid,
    marching,
    mlp,
    occupancy,
    portrait,
    poses,
    splats,
    surface,
    warp,
)
from ntalker_ns.kernels.types import FieldOutputs, FieldParts


@runtime_checkable
class FusedField(Protocol):
    """The whole field at some frames, see `FieldParts`."""

    def __call__(
        self, positions: Float[Tensor, "samples 3"], views: RayInputs | None, counts: Sequence[int]
    ) -> FieldOutputs:
        """The field's values, differentiable in positions, tables, networks and the frames' channels.

        Args:
            positions: world, float32, grouped by frame.
            views: encoded viewing directions; None: colour does not depend on them.
            counts: samples of each frame.
        """
        ...


def implementations(backend: Backend, device_type: str) -> dict[str, tuple[Backend, ...]]:
    """Which backends compute each operation: the first one that accepts the inputs.

    Args:
        backend: the one that is requested.
        device_type: as in `torch.device.type`.

    Raises:
        NTalkerError: the backend does not run there.
    """
    chosen = resolve_backend(backend, device_type)
    chain: list[Backend] = [chosen, *(each for each in FALLBACKS[chosen] if unavailable(each, device_type) is None)]
    return {name: tuple(each for each in chain if name in KERNELS[each]) for name in MODULES}


class Ops:
    """The operations, each bound to the fastest implementation that a backend has for it."""

    encode = staticmethod(hash_grid.encode)
    run_mlp = staticmethod(mlp.run_mlp)
    gate = staticmethod(warp.gate)
    inverse_warp = staticmethod(warp.inverse_warp)
    correct_poses = staticmethod(poses.correct_poses)
    spherical_harmonics = staticmethod(harmonics.spherical_harmonics)
    fused_field: Callable[[FieldParts], FusedField] | None = None
    """Evaluates the whole field in one kernel; None: it is evaluated operation by operation."""
    intersect_box = staticmethod(marching.intersect_box)
    march = staticmethod(marching.march)
    incremental_march = staticmethod(marching.incremental_march)
    march_to_capacity = staticmethod(marching.march_to_capacity)
    points_along = staticmethod(marching.points_along)
    composite = staticmethod(compositing.composite)
    add_samples = staticmethod(compositing.add_samples)
    mark_visible = staticmethod(occupancy.mark_visible)
    squared_distance = staticmethod(surface.squared_distance)
    rasterise = staticmethod(splats.rasterise)
    moved_picture = staticmethod(portrait.moved_picture)
    portrait_frame = staticmethod(portrait.portrait_frame)

    def __init__(self, device: torch.device | str, backend: Backend = "auto") -> None:
        """
        Args:
            device: where the operations run; its kind counts.
            backend: see `Backend`.

        Raises:
            NTalkerError: the backend does not run there.
        """
        self.implementations = implementations(backend, torch.device(device).type)
        """Which backends compute each operation: the first one that accepts the inputs."""
        for name, backends in self.implementations.items():
            if backends and backends[0] != "reference":
                setattr(self, name, _bind(name, backends))


def _bind(name: str, backends: Sequence[Backend]) -> Callable[..., Any]:
    """The first backend's kernel, with the others behind it where it does not take all inputs."""
    module: Any = importlib.import_module(f"ntalker_ns.kernels.{backends[0]}.{MODULES[name]}")
    kernel, accepts = getattr(module, name), getattr(module, f"accepts_{name}", None)
    if accepts is None:
        return kernel
    fallback = _bind(name, backends[1:])

    def run(*args: Any, **kwargs: Any) -> Any:
        return kernel(*args, **kwargs) if accepts(*args, **kwargs) else fallback(*args, **kwargs)

    return run
