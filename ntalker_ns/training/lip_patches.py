"""The last part of training: every other step looks at patches of lips with a loss of what people see in them.

Single pixels know nothing of edges; a lip line that is a little blurred everywhere costs little in squared error. The
steps between stay as they were, so that the rest of the head is not forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from ntalker_ns.errors import NTalkerError

PatchLoss = Callable[[Tensor, Tensor], Tensor]
"""Of two batches of patches (n, 3, h, w) in [0, 1], the first one's error."""

LPIPS_WEIGHTS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Networks of LPIPS in order of preference, and the files that torchvision stores their weights in."""


@dataclass
class LipsPhaseConfig:
    """How the lips are refined at the end of training."""

    fraction: float = 0.0
    """Part of the run, 0 to 1, at its end, in which every other step takes patches of the lips; 0: none."""
    patch_size: int = 32
    """Side of the patches in px."""
    lpips_weight: float = 0.01
    """Weight of the perceptual error of a patch (LPIPS), where a network for it is on this machine."""
    gradient_weight: float = 0.05
    """Weight of the difference of image gradients, which is taken where no such network is here."""


@dataclass
class LipsPhase:
    """When patches of lips are taken, and what they cost."""

    config: LipsPhaseConfig
    _loss: tuple[str, float, PatchLoss] | None = field(default=None, init=False, repr=False)

    def takes(self, step: int, steps: int) -> bool:
        """Whether a training step takes patches of lips.

        Args:
            step: from 0.
            steps: of the whole run.
        """
        return step >= steps * (1.0 - self.config.fraction) and (steps - step) % 2 == 1

    def loss(self, rendered: Float[Tensor, "rays 3"], image: Float[Tensor, "rays 3"]) -> Tensor:
        """The weighted error of patches; which one it is, is said at its first use.

        Args:
            rendered: RGB, patch after patch and row by row.
            image: the frames' colours.
        """
        if self._loss is None:
            self._loss = self._chosen(rendered.device)
            CONSOLE.print(f"The lips phase begins; its loss is {self._loss[0]}.")
        _, weight, loss = self._loss
        size = self.config.patch_size
        pictures = [colours.reshape(-1, size, size, 3).permute(0, 3, 1, 2) for colours in (rendered, image)]
        return weight * loss(*pictures)

    def _chosen(self, device: torch.device) -> tuple[str, float, PatchLoss]:
        network = lpips_network()
        if network is None:
            places = ", ".join(LPIPS_WEIGHTS.values())
            name = f"the difference of image gradients (LPIPS needs one of {places} in {_weights_folder()})"
            return name, self.config.gradient_weight, gradient_loss
        return f"LPIPS with {network}", self.config.lpips_weight, load_lpips(network, device)


def check_config(config: LipsPhaseConfig) -> None:
    """Checks the numbers of the phase.

    Raises:
        NTalkerError: one of them cannot be.
    """
    if not 0.0 <= config.fraction <= 1.0:
        raise NTalkerError(f"--pipeline.lips.fraction must be between 0 and 1, not {config.fraction:g}.")
    if config.patch_size < 16:
        raise NTalkerError(f"--pipeline.lips.patch-size must be at least 16, not {config.patch_size}.")


def gradient_loss(rendered: Float[Tensor, "n 3 h w"], image: Float[Tensor, "n 3 h w"]) -> Tensor:
    """Mean absolute difference of forward differences, to the right and downwards."""
    difference = rendered - image
    return (difference.diff(dim=3).abs().mean() + difference.diff(dim=2).abs().mean()) / 2.0


def lpips_network() -> str | None:
    """The first network of `LPIPS_WEIGHTS` whose weights are on this machine."""
    return next((name for name, file in LPIPS_WEIGHTS.items() if (_weights_folder() / file).is_file()), None)


def load_lpips(network: str, device: torch.device) -> PatchLoss:
    """Learned perceptual similarity (Zhang et al. 2018) by torchmetrics, from weights on this machine.

    Args:
        network: a name of `LPIPS_WEIGHTS` whose file is there.
        device: where to compute.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    # Held by a closure: as a submodule of the pipeline it would be in every checkpoint.
    net = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True).net.to(device).requires_grad_(False)  # type: ignore[arg-type]

    def lpips(rendered: Tensor, image: Tensor) -> Tensor:
        return net(rendered.clamp(0.0, 1.0), image, normalize=True).mean()

    return lpips


def _weights_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
