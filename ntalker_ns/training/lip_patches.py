"""The last phase of training: every other step renders patches of lips, for a perceptual loss.

Single pixels carry no edges, and a slightly blurred lip line costs little squared error. The steps between stay as
before, so that the rest of the head is not forgotten.
"""

from dataclasses import dataclass

from ntalker_ns.errors import NTalkerError


@dataclass
class LipsPhaseConfig:
    """Lip patches at the end of training."""

    fraction: float = 0.0
    """Fraction of the run, 0 to 1, at its end, in which every other step renders lip patches; 0 disables them."""
    patch_size: int = 32
    """Side of the patches in px."""
    lpips_weight: float = 0.01
    """Weight of the patches' LPIPS, if weights of one of its networks are on this machine."""
    gradient_weight: float = 0.05
    """Weight of the difference of image gradients, which replaces LPIPS otherwise."""

    def takes(self, step: int, steps: int) -> bool:
        """Whether a training step renders lip patches.

        Args:
            step: from 0.
            steps: of the whole run.
        """
        return step >= steps * (1.0 - self.fraction) and (steps - step) % 2 == 1

    def check(self) -> None:
        """
        Raises:
            NTalkerError: a number is out of range.
        """
        if not 0.0 <= self.fraction <= 1.0:
            raise NTalkerError(f"--pipeline.lips.fraction must be between 0 and 1, not {self.fraction:g}.")
        if self.patch_size < 16:
            raise NTalkerError(f"--pipeline.lips.patch-size must be at least 16, not {self.patch_size}.")
