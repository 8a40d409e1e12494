"""A run small enough to train in a test: the tiny clip, a tiny field, a few rays."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.optimizers import AdamOptimizerConfig

from ntalker_ns.field.talker_field import TalkerFieldConfig
from ntalker_ns.talker_datamanager import TalkerDataManagerConfig
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_model import TalkerModelConfig
from ntalker_ns.talker_pipeline import TalkerPipelineConfig
from ntalker_ns.talker_trainer import TalkerTrainerConfig
from ntalker_ns.training.schedulers import CosineDecayConfig


def tiny_config(data: Path, output_dir: Path, **overrides: Any) -> TalkerTrainerConfig:
    """A config that trains on the CPU in milliseconds a step.

    Args:
        data: a data set.
        output_dir: where runs go.
        overrides: fields of the trainer's config.
    """
    optimizer = {"optimizer": AdamOptimizerConfig(lr=5e-3, eps=1e-15), "scheduler": CosineDecayConfig()}
    fields = {
        "method_name": "ntalker-base-small",
        "vis": "tensorboard",
        "max_num_iterations": 8,
        "steps_per_save": 1000,
        "steps_per_eval_image": 0,
        "steps_per_eval_all_images": 0,
        "output_dir": output_dir,
        "pipeline": TalkerPipelineConfig(
            datamanager=TalkerDataManagerConfig(data=data, dataparser=TalkerDataParserConfig(), rays_per_step=256),
            model=TalkerModelConfig(
                field=TalkerFieldConfig(num_levels=4, max_resolution=64, log2_hashmap_size=10),
                backend="reference",
                occupancy_resolution=32,
                occupancy_cells=512,
                occupancy_interval=2,
                step_size=0.1,
                max_samples=12,
            ),
            target_samples=1500,
            min_rays=64,
        ),
        "optimizers": {
            name: dict(optimizer) for name in ("grids", "networks", "codes", "poses", "torso", "background")
        },
    }
    config = TalkerTrainerConfig(**{**fields, **overrides})
    config.machine.device_type = "cpu"
    return config


def start(config: TalkerTrainerConfig) -> Any:
    """What `ns-train` does up to the first step."""
    from nerfstudio.utils import writer

    # nerfstudio's writers are global: those of the run before would go on writing.
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    config.set_timestamp()
    config.save_config()
    torch.manual_seed(config.machine.seed)
    np.random.seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def train(config: TalkerTrainerConfig) -> Any:
    """The trainer of a run, after its last step."""
    trainer = start(config)
    trainer.train()
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    """A copy of the state of a trainer's model."""
    return {name: value.clone() for name, value in trainer.pipeline.model.state_dict().items()}
