"""Adam in one pass over the parameters."""

from dataclasses import dataclass

from nerfstudio.engine.optimizers import AdamOptimizerConfig


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam whose update is one kernel: torch's default makes a pass over memory for each operation of it, which for
    hash tables costs as much as encoding a step's samples."""

    eps: float = 1e-15
    """Small, as for all hash grids: entries that are seldom touched have tiny gradients."""
    fused: bool = True
    """One kernel, on the CPU and on CUDA."""
