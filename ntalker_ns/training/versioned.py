"""Whether tensors were written since a value was computed from them.

torch counts the writes to each tensor in its version, except those of fused optimisers: `count_writes` adds them, for
the optimisers of every run. Everything kept between steps or frames is keyed by a `Snapshot`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COMPARE_VALUES = False
"""Whether snapshots also compare sums of the values, which reads them: in tests, to find uncounted writes."""


class Snapshot:
    """The state of some tensors; equal to a later one of the same tensors if nothing was written between.

    Raises:
        RuntimeError: in a comparison, with `COMPARE_VALUES`: values changed without being counted.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = tuple(tensors)
        self._versions = tuple(tensor._version for tensor in self._tensors)
        self._sums = [_sum(tensor) for tensor in self._tensors] if COMPARE_VALUES else []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot) or self._versions != other._versions:
            return False
        if not all(one is two for one, two in zip(self._tensors, other._tensors, strict=True)):
            return False
        if self._sums != other._sums:
            raise RuntimeError(
                "A tensor was written without its version being raised, so that cached values are stale: write in "
                "place, not through .data, and pass optimisers to ntalker_ns.training.versioned.count_writes."
            )
        return True


def count_writes(optimizer: torch.optim.Optimizer) -> None:
    """Makes an optimiser's steps raise its parameters' versions: torch's fused kernels do not."""
    optimizer.register_step_post_hook(_raise_versions)


def _raise_versions(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    from torch.autograd.graph import increment_version

    for group in optimizer.param_groups:
        for parameter in group["params"]:
            increment_version(parameter)


def _sum(tensor: Tensor) -> int | None:
    """The sum of a tensor's bytes: that of its values would depend on the number of threads. None where there are no
    values, or none to be read while a graph is recorded."""
    if tensor.device.type == "meta" or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    return int(tensor.detach().contiguous().flatten().view(torch.uint8).sum(dtype=torch.int64))
