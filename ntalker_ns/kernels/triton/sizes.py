"""Which networks Triton's kernels take, on which GPUs.

Importing this module imports Triton.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

SMALLEST = 16
"""Least side of a matrix for the device's matrix units."""
WIDEST = 128
"""Most inputs, hidden channels and outputs whose matrices still fit the registers of a program."""
SHARED_MEMORY = {64: 98_304, 128: 196_608}
"""Bytes of shared memory that a program takes at most, backward, by its hidden channels at most. It may use 65,536 on
GPUs of compute capability 7.5, 101,376 on those of 8.6, 8.9 and 12.0, 166,912 on 8.0 and 232,448 on 9.0."""


def widest(shared_memory: int) -> int:
    """Most hidden channels that the kernels take where a program has so many bytes of shared memory; 0: none."""
    return max((width for width, needed in SHARED_MEMORY.items() if needed <= shared_memory), default=0)


@lru_cache
def widest_on(device: torch.device) -> int:
    """`widest` on a device; all of them on the CPU, which is where Triton's interpreter runs."""
    if device.type != "cuda":
        return WIDEST
    index = torch.cuda.current_device() if device.index is None else device.index
    driver: Any = triton.runtime.driver.active
    # What Triton itself compares with before it launches a kernel.
    return widest(driver.utils.get_device_properties(index)["max_shared_mem"])


def fits(weights: Sequence[Tensor], device: torch.device) -> bool:
    """Whether the kernels take a network.

    Args:
        weights: (out, in) of each layer.
        device: where it runs.

    Returns:
        True for two or three layers whose hidden width is a power of two from 16 to `widest_on` the device,
        with at most 128 inputs and outputs.
    """
    hidden, inputs = weights[0].shape
    sizes = SMALLEST <= hidden <= widest_on(device) and hidden == triton.next_power_of_2(hidden)
    return len(weights) in (2, 3) and sizes and max(inputs, len(weights[-1])) <= WIDEST
