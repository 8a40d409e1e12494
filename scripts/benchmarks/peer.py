"""nerfacto as the peer: the same frames, the same rays, nerfstudio's torch implementation."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import nn


def nerfacto_config(ours: Any, rays: int) -> Any:
    """nerfacto's own configuration over our data manager, so that both methods train on the same rays.

    Args:
        ours: trainer configuration of one of our methods, already prepared (`runs.prepare`).
        rays: rays of a training step.
    """
    from nerfstudio.configs.method_configs import method_configs

    config: Any = copy.deepcopy(method_configs["nerfacto"])
    config.pipeline.datamanager = dataclasses.replace(ours.pipeline.datamanager, rays_per_step=rays)
    config.pipeline.model.implementation = "torch"
    config.data, config.output_dir, config.machine = ours.data, ours.output_dir, ours.machine
    config.vis = "tensorboard"
    config.mixed_precision = ours.mixed_precision
    return config


@contextlib.contextmanager
def without_download() -> Iterator[None]:
    """Lets nerfacto be built offline: its constructor downloads AlexNet for a metric that is not used here."""
    from torchmetrics.image import lpip

    metric = lpip.LearnedPerceptualImagePatchSimilarity
    lpip.LearnedPerceptualImagePatchSimilarity = lambda **_: nn.Identity()  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        lpip.LearnedPerceptualImagePatchSimilarity = metric  # type: ignore[misc]
