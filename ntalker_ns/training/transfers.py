"""Copies between host and device for which neither waits.

A GPU works through what it was told long after the host has told it. Where the host asks for a number, both stand
still: it until the number is there, the GPU until it is told more.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def host_would_wait(tensor: Tensor) -> bool:
    """Whether the host can only know a tensor's values by waiting for a device."""
    return tensor.device.type != "cpu"


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Values of the host on a device, in the order of its work.

    Args:
        values: on the host, or there already; from memory that the system may move, as the host's is, a copy would wait
            for all work before it.
        device: where to.
    """
    if torch.device(device).type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class Known:
    """Values of the host that a device asks for in every step: brought there once."""

    def __init__(self, values: Tensor) -> None:
        """
        Args:
            values: on the host; nobody writes to them.
        """
        self.host = self._there = values

    def on(self, device: torch.device) -> Tensor:
        """The values on a device."""
        if self._there.device != device:
            self._there = to_device(self.host, device)
        return self._there


class Indices:
    """Where a mask is true, looked for again only after the mask was written: the host waits to be told how many."""

    def __init__(self, on_host: bool = False) -> None:
        """
        Args:
            on_host: indices are wanted on the host; else where the mask is.
        """
        self._on_host = on_host
        self._mask: Tensor | None = None
        self._version = 0
        self._found = torch.zeros(0, dtype=torch.int64)

    def of(self, mask: Bool[Tensor, "*shape"]) -> Int[Tensor, "found"]:
        """The indices, of the flattened mask."""
        if self._mask is not mask or self._version != mask._version:
            found = mask.flatten().nonzero().squeeze(-1)
            self._found = found.cpu() if self._on_host else found
            self._mask, self._version = mask, mask._version
        return self._found


class Later:
    """A number that is on its way to the host."""

    def __init__(self, value: Tensor) -> None:
        """
        Args:
            value: a single number, no gradient.
        """
        self._event: torch.cuda.Event | None = None
        self._host = value.detach()
        if value.device.type == "cuda":
            self._host = torch.empty_like(self._host, device="cpu", pin_memory=True)
            self._host.copy_(value.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(value.device))

    def value(self) -> float:
        """The number; waits for it, which is short for what was computed a few steps ago."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._host)


class LateNumbers:
    """A number of each step, known to the host some steps later: always as many, so that runs can be repeated."""

    STEPS = 2
    """How many where the host would wait. On the CPU nothing is late."""

    def __init__(self) -> None:
        self._coming: list[Later] = []

    def put(self, value: Tensor) -> float | None:
        """Takes a step's number and gives that of the step which is known by now, if there is one."""
        self._coming.append(Later(value))
        late = self.STEPS if host_would_wait(value) else 0
        return self._coming.pop(0).value() if len(self._coming) > late else None
