"""The discriminator of the adversarial loss, on patches of pictures."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
"""Negative slope of the leaky ReLUs."""


class PatchDiscriminator(nn.Module):
    """Classifies overlapping patches of a picture as edited or rendered.

    Strided convolutions with spectral normalisation (Isola et al. 2017; Miyato et al. 2018). No layer mixes pictures of
    a batch, so that one picture per step suffices.
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256)) -> None:
        """
        Args:
            channels: of each convolution that halves the picture; patches are about 2^(their number + 2) px wide.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in zip((3, *channels), channels, strict=False):
            layers.append(spectral_norm(nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(SLOPE))
        layers.append(spectral_norm(nn.Conv2d(channels[-1], 1, kernel_size=3, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 patches_h patches_w"]:
        """A logit for each patch, positive for edited frames.

        Args:
            image: about [0, 1].
        """
        return self.layers(2.0 * image - 1.0)

    def frozen(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 patches_h patches_w"]:
        """The same logits, with gradients to the picture but not to the discriminator."""
        weights = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return torch.func.functional_call(self, weights, (image,))
