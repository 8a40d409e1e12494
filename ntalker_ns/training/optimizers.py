"""Adam in one pass over the parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from ntalker_ns.training.versioned import count_writes


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam as one kernel. torch's default passes over memory once per operation, which for hash tables takes as long as
    encoding a step's samples."""

    eps: float = 1e-15
    """Small, as usual for hash grids: rarely touched entries have tiny gradients."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradients and of their squares."""
    fused: bool = True
    """One kernel, on the CPU and on CUDA."""

    def setup(self, params: Iterable[Any], **kwargs: Any) -> Any:
        """The optimiser of some parameters."""
        optimizer = super().setup(params, **kwargs)
        count_writes(optimizer)
        return optimizer
