"""Adam in one pass over the parameters, and a scaler of the loss that nobody waits for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from torch.amp.grad_scaler import GradScaler


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam whose update is one kernel: torch's default makes a pass over memory for each operation of it, which for
    hash tables costs as much as encoding a step's samples."""

    eps: float = 1e-15
    """Small, as for all hash grids: entries that are seldom touched have tiny gradients."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradients and of their squares."""
    fused: bool = True
    """One kernel, on the CPU and on CUDA."""

    def setup(self, params: Iterable[Any], **kwargs: Any) -> Any:
        """The optimiser of some parameters."""
        optimizer = super().setup(params, **kwargs)
        optimizer.register_step_post_hook(_note_change)
        return optimizer


class NonBlockingGradScaler(GradScaler):
    """A scaler of the loss that nobody asks for its scale in training: the host would wait for the step's end.

    nerfstudio asks twice a step, to leave the learning rates as they are where a step overflowed. Here they follow the
    steps, overflown ones included.
    """

    def get_scale(self) -> float:
        """Always 1: not the scale, which `state_dict` has."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """As stock."""
        state = super().state_dict()
        return state | ({"scale": super().get_scale()} if state else {})


def _note_change(optimizer: Any, *_: Any) -> None:
    """Says that the parameters were written, as every other operation in place does and torch's fused kernel does not:
    what is kept between frames must not outlive them."""
    from torch.autograd.graph import increment_version

    for group in optimizer.param_groups:
        for parameter in group["params"]:
            increment_version(parameter)
