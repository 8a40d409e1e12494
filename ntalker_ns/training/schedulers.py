"""The learning-rate schedule. Its state is plain Python, so that a checkpoint loads with `weights_only=True`.

nerfstudio's own schedules return numpy floats. Those reach the scheduler's state and every optimiser group's
learning rate, and torch >= 2.6 refuses to unpickle them unless its check is turned off.
"""

import math
from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_factor(step: int, max_steps: int, warmup_steps: int, final_factor: float) -> float:
    """Learning rate over its initial value: a linear warm-up, then half a cosine.

    Args:
        step: training step, from 0.
        max_steps: step from which the factor stays at `final_factor`.
        warmup_steps: steps over which the factor rises from 1 / warmup_steps to 1; 0 for none.
        final_factor: factor at the end, 0 or more.

    Returns:
        The factor, a Python float.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(max((step - warmup_steps) / max(max_steps - warmup_steps, 1), 0.0), 1.0)
    wave = 0.5 * (1.0 + math.cos(math.pi * progress))
    return float(final_factor + (1.0 - final_factor) * wave)


@dataclass
class CosineDecayConfig(SchedulerConfig):
    """Warm-up, then half a cosine."""

    _target: type = field(default_factory=lambda: CosineDecay)
    """Target class to instantiate."""
    max_steps: int | None = None
    """Step at which the decay ends; None: the run's max_num_iterations."""
    warmup_steps: int = 0
    """Steps of linear warm-up before the decay."""
    final_factor: float = 0.1
    """Learning rate at the end, as a factor of the initial one."""


class CosineDecay(Scheduler):
    """See `cosine_factor`."""

    config: CosineDecayConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """The torch scheduler of one optimiser.

        Args:
            optimizer: the optimiser whose learning rate is scheduled.
            lr_init: its initial learning rate; unused, the schedule is relative to it.

        Returns:
            A scheduler whose state holds only Python numbers.
        """
        config = self.config
        if config.max_steps is None:
            raise ValueError("max_steps of a schedule is set by the trainer's config before training starts.")
        max_steps = config.max_steps
        return LambdaLR(
            optimizer, lambda step: cosine_factor(step, max_steps, config.warmup_steps, config.final_factor)
        )
