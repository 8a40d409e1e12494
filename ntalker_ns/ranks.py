"""Several processes on one job: who is who, and work divided between them."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import distributed

Item = TypeVar("Item")


def rank() -> int:
    """This process's number, 0 where it is alone."""
    return distributed.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _together() else 1


def share(items: Sequence[Item]) -> Sequence[Item]:
    """What of a list is this process's: every n-th of it."""
    return items[rank() :: world_size()]


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if not _together():
        return
    if distributed.get_backend() == "nccl":
        distributed.barrier(device_ids=[torch.cuda.current_device()])
    else:
        distributed.barrier()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
