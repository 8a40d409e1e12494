"""Starts and loads runs from Python, as `ns-train` and the stock commands do."""

import copy
from pathlib import Path
from typing import Any


def method_config(method: str = "ntalker-base-small", **overrides: Any) -> Any:
    """The configuration of one of our methods, to be changed freely.

    Args:
        method: its registered name.
        overrides: fields of the trainer's configuration.
    """
    from ntalker_ns import method_configs

    known = (
        method_configs.ntalker_base,
        method_configs.ntalker_base_small,
        method_configs.ntalker_edit,
        method_configs.ntalker_edit_small,
    )
    config = next(copy.deepcopy(one.config) for one in known if one.config.method_name == method)
    for name, value in overrides.items():
        setattr(config, name, value)
    return config


def train(config: Any) -> Path:
    """Trains in this process, without a viewer.

    Args:
        config: of `method_config`, with `data` and `output_dir` set.

    Returns:
        The run's config.yml.

    Raises:
        NTalkerError: the data cannot be used.
    """
    prepare(config)
    return run(config)


def prepare(config: Any) -> None:
    """Does what precedes a training: names the run, writes its configuration, without a viewer.

    Args:
        config: of `method_config`, with `data` and `output_dir` set.

    Raises:
        NTalkerError: the data cannot be used.
    """
    from nerfstudio.utils import writer

    # nerfstudio's writers are global and outlive a run: the next one would go on writing into its folder.
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    config.vis = "tensorboard"
    if config.data is not None:
        config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.save_config()


def run(config: Any) -> Path:
    """Trains what has been prepared.

    Args:
        config: that `prepare` was given.

    Returns:
        The run's config.yml.
    """
    from nerfstudio.scripts.train import train_loop

    train_loop(local_rank=0, world_size=1, config=config)
    return config.get_base_dir() / "config.yml"


def load(load_config: Path) -> Any:
    """Loads a run's pipeline with its newest checkpoint.

    Args:
        load_config: the run's config.yml.

    Raises:
        NTalkerError: there is no such run, or it has no checkpoint.
    """
    from ntalker_ns.runs import load_run

    return load_run(load_config)[1]
