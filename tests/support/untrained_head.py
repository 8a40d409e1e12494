"""A small head of a made-up ball that was not trained, with its pipeline."""

import copy
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras

from ntalker_ns.method_configs import ntalker_base_small
from support.synthetic_clip import write_clip

SIZE = 48
"""Side of its frames in px."""


def pipeline_config(folder: Path) -> Any:
    """The small preset for a clip of 22 frames, in whose training every step does all that a step may do."""
    data = write_clip(folder / "ball", num_frames=22, size=SIZE)
    config: Any = copy.deepcopy(ntalker_base_small.config.pipeline)
    config.datamanager.data = config.datamanager.dataparser.data = Path(data)
    config.datamanager.rays_per_step = 256
    config.datamanager.surroundings_interval = config.model.occlusion_interval = 1
    return config


def untrained(config: Any, datamanager: Any = None) -> Any:
    """A pipeline on the CPU whose head depends on speech, eyes and place.

    Args:
        config: of `pipeline_config`; not shared with the pipeline.
        datamanager: in place of its own, with the frames it has read already.
    """
    torch.manual_seed(0)
    pipeline = copy.deepcopy(config).setup(device="cpu", test_mode="val")
    # Without training the grids are flat, and nothing depends on anything.
    for table in pipeline.model.head.field.grid_parameters():
        torch.nn.init.normal_(table)
    if datamanager is not None:
        pipeline.datamanager = datamanager
    return pipeline


def camera(pipeline: Any, frame: int = 0) -> Cameras:
    """The camera of a held-out frame."""
    return pipeline.datamanager.eval_dataset.cameras[frame : frame + 1]


def mark_trained(pipeline: Any) -> None:
    """The head in training, told which frames are trained on, as its first step does."""
    pipeline.train()
    pipeline.model.pose_refinement.mark_trained(torch.arange(20))
