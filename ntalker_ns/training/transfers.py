"""Copies between host and device without synchronisation.

A GPU works through its queue long after the host has filled it. Where the host reads a number, both stand still: the
host until the number is computed, the GPU until its queue is filled again.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ntalker_ns.training.versioned import Snapshot


def would_synchronize(tensor: Tensor) -> bool:
    """Whether reading a tensor's values on the host waits for a device."""
    return tensor.device.type != "cpu"


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copies values to a device, in the order of its queue and without synchronisation.

    Args:
        values: on the host, or there already. They are copied through pinned memory: from pageable memory, a copy waits
            until the queue is empty.
        device: the target.
    """
    if torch.device(device).type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class DeviceCopy:
    """Constant values on the host that a device uses in every step: copied there once."""

    def __init__(self, values: Tensor) -> None:
        """
        Args:
            values: on the host; never written to.
        """
        self.host = self._copy = values

    def on(self, device: torch.device) -> Tensor:
        """The values on a device."""
        if self._copy.device != device:
            self._copy = to_device(self.host, device)
        return self._copy


class CachedNonzero:
    """The indices where a mask is true, recomputed only after the mask was written: the host reads their number."""

    def __init__(self, on_host: bool = False) -> None:
        """
        Args:
            on_host: whether indices are wanted on the host; otherwise where the mask is.
        """
        self._on_host = on_host
        self._snapshot: Snapshot | None = None
        self._indices = torch.zeros(0, dtype=torch.int64)

    def of(self, mask: Bool[Tensor, "*shape"]) -> Int[Tensor, "indices"]:
        """The indices of the flattened mask."""
        snapshot = Snapshot([mask])
        if snapshot != self._snapshot:
            indices = mask.flatten().nonzero().squeeze(-1)
            self._indices = indices.cpu() if self._on_host else indices
            self._snapshot = snapshot
        return self._indices


class AsyncScalar:
    """A number on its way to the host."""

    def __init__(self, value: Tensor) -> None:
        """
        Args:
            value: a single number, without gradient.
        """
        self._event: torch.cuda.Event | None = None
        self._host = value.detach()
        if value.device.type == "cuda":
            self._host = torch.empty_like(self._host, device="cpu", pin_memory=True)
            self._host.copy_(value.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(value.device))

    def value(self) -> float:
        """The number; waits for it, briefly if it was computed a few steps ago."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._host)


class DelayedScalar:
    """One number per step, read a fixed number of steps later: fixed, so that runs are repeatable."""

    STEPS = 2
    """The delay where reading would synchronise; on the CPU there is none."""

    def __init__(self) -> None:
        self._pending: list[AsyncScalar] = []

    def put(self, value: Tensor) -> float | None:
        """Takes this step's number and returns the one that is due, if any."""
        self._pending.append(AsyncScalar(value))
        delay = self.STEPS if would_synchronize(value) else 0
        return self._pending.pop(0).value() if len(self._pending) > delay else None
