"""An edit small enough to run in a test: the tiny run's head, six frames, a filter."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ntalker_ns.edit_model import EditModelConfig
from ntalker_ns.edit_pipeline import EditPipelineConfig
from ntalker_ns.edit_trainer import EditTrainer, EditTrainerConfig
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.plan import EditConfig
from ntalker_ns.talker_trainer import TalkerTrainer
from ntalker_ns.training.schedulers import CosineDecayConfig
from support.tiny_run import tiny_config, train

FRAMES, SIDE = 5, 16
TINY_EDIT = {
    "num_frames": FRAMES,
    "updates": 2,
    "epochs": 4,
    "lip_epochs": 1,
    "patch_size": SIDE,
    "lip_patch_size": SIDE,
}


def tiny_edit(output_dir: Path, edit: dict[str, Any] | None = None, **overrides: Any) -> EditTrainerConfig:
    """A config that edits in milliseconds a step: 10 + 10 steps on two updates, 5 on lips.

    Args:
        output_dir: where runs go and where the base is looked for.
        edit: fields of the edit's config.
        overrides: fields of the trainer's config.
    """
    base = tiny_config(Path(), output_dir)
    optimizer = {"optimizer": base.optimizers["grids"]["optimizer"], "scheduler": CosineDecayConfig()}
    groups = ("grids", "networks", "torso", "background", "refinement", "discriminator")
    fields = {
        "method_name": "ntalker-edit-small",
        "vis": "tensorboard",
        "steps_per_save": 1000,
        "output_dir": output_dir,
        "instruction": "Make it a sepia picture",
        "editor": FilterEditorConfig(),
        "edit": EditConfig(**{**TINY_EDIT, **(edit or {})}),
        "pipeline": EditPipelineConfig(
            model=EditModelConfig(discriminator_channels=(4, 8), perceptual_weight=0.0, style_weight=0.0)
        ),
        "optimizers": {name: dict(optimizer) for name in groups},
    }
    config = EditTrainerConfig(**{**fields, **overrides})
    config.machine.device_type = "cpu"
    return config


def train_base(data: Path, output_dir: Path, **overrides: Any) -> TalkerTrainer:
    """A base run that has been trained to its end, barely."""
    return train(tiny_config(data, output_dir, **overrides))


def frames_of(trainer: EditTrainer, kind: Any, step: int) -> np.ndarray:
    """All stored pictures of one kind and step."""
    update = trainer.dataset_update
    return np.stack([update.store.get(kind, int(index), step) for index in update.indices])


def render(trainer: EditTrainer, i: int) -> dict[str, torch.Tensor]:
    """One of the N frames, from the head as it is now."""
    return trainer.render(trainer.dataset_update.cameras[i : i + 1])
