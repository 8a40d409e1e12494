"""Training in several processes: ranks, and work divided between them."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from ntalker_ns.errors import NTalkerError

Item = TypeVar("Item")


def rank() -> int:
    """This process's number, 0 where it is alone."""
    return distributed.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _together() else 1


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This process's part of a list: every n-th item."""
    return items[rank() :: world_size()]


def wait_for_all() -> None:
    """A barrier."""
    if not _together():
        return
    if distributed.get_backend() == "nccl":
        distributed.barrier(device_ids=[torch.cuda.current_device()])
    else:
        distributed.barrier()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def main() -> None:
    """Parses ns-train's command line and trains in this process and its siblings."""
    import tyro
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    run(tyro.cli(AnnotatedBaseConfigUnion, description=__doc__))  # type: ignore[arg-type]


def run(config: Any) -> None:
    """Trains one configuration in all processes that torchrun started.

    Args:
        config: a trainer's, without a time stamp: the first process names the run and writes its folder.

    Raises:
        NTalkerError: it cannot be trained; raised in every process.
    """
    from nerfstudio.scripts.train import train_loop
    from nerfstudio.utils import comms

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpus = config.machine.device_type == "cuda" and torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    comms.LOCAL_PROCESS_GROUP = distributed.group.WORLD
    try:
        config = _prepared(config)
        train_loop(local_rank, distributed.get_world_size(), config, distributed.get_rank())
    finally:
        distributed.destroy_process_group()


def _prepared(config: Any) -> Any:
    """The configuration as the first process resolved and saved it, or the error that it raised."""
    answer: list[Any] = [None]
    if distributed.get_rank() == 0:
        try:
            if config.data is not None:
                config.pipeline.datamanager.data = config.data
            config.set_timestamp()
            config.save_config()
            answer = [config]
        except NTalkerError as error:
            answer = [str(error)]
    distributed.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], str):
        raise NTalkerError(answer[0])
    return answer[0]


if __name__ == "__main__":
    main()
