"""Runs from Python: started as `ns-train` starts them, and loaded to render."""

import copy
from pathlib import Path
from typing import Any

from nerfstudio.pipelines.base_pipeline import Pipeline

from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import find_checkpoint, read_checkpoint, read_config


def load_run(load_config: Path) -> Any:
    """Loads a trained head for rendering, from wherever its run folder lies now; its data set is not needed.

    Args:
        load_config: the run's config.yml.

    Returns:
        Its `TalkerPipeline` in evaluation mode, with the newest checkpoint or that of the configuration's load_step.

    Raises:
        NTalkerError: there is no such file, it is no run of ours, or it has no checkpoint.
    """
    import torch

    if not load_config.is_file():
        raise NTalkerError(f"There is no run at '{load_config}': give the config.yml that ns-train wrote.")
    config = read_config(load_config)
    # The folder that a config names may be there still, with another run's weights.
    models = load_config.resolve().parent / config.relative_model_dir
    if not models.is_dir():
        raise NTalkerError(f"'{load_config}' has no checkpoints, for there is no folder {models}: copy it there.")
    state = read_checkpoint(find_checkpoint(models, config.load_step))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline: Pipeline = config.pipeline.setup(device=device, test_mode="inference")
    pipeline.eval()
    pipeline.load_pipeline(state["pipeline"], state["step"])
    return pipeline


def method_config(method: str = "ntalker-base-small", **overrides: Any) -> Any:
    """The configuration of one of our methods, to be changed freely.

    Args:
        method: its registered name.
        overrides: fields of the trainer's configuration.

    Raises:
        NTalkerError: there is no such method.
    """
    from ntalker_ns import method_configs

    known = (
        method_configs.ntalker_base,
        method_configs.ntalker_base_small,
        method_configs.ntalker_edit,
        method_configs.ntalker_edit_small,
    )
    configs = {one.config.method_name: one.config for one in known}
    if method not in configs:
        raise NTalkerError(f"There is no method '{method}': choose from {', '.join(map(str, configs))}.")
    config = copy.deepcopy(configs[method])
    for name, value in overrides.items():
        setattr(config, name, value)
    return config


def train_config(config: Any) -> Path:
    """Trains in this process, without a viewer.

    Args:
        config: of `method_config`, with `data` and `output_dir` set.

    Returns:
        The run's config.yml.

    Raises:
        NTalkerError: the data cannot be used.
    """
    prepare(config)
    return train_prepared(config)


def prepare(config: Any) -> None:
    """What precedes a training: names the run and writes its configuration.

    Args:
        config: of `method_config`, with `data` and `output_dir` set; its viewer is turned off.

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


def train_prepared(config: Any) -> Path:
    """Trains after `prepare`; returns the run's config.yml."""
    from nerfstudio.scripts.train import train_loop

    train_loop(local_rank=0, world_size=1, config=config)
    return config.get_base_dir() / "config.yml"
