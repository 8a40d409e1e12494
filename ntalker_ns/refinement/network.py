"""The refinement network g, which adds high-frequency detail to rendered pictures (paper, Eq. 5 and Appendix B)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 64
"""Input and output channels of the block."""
GROWTH = 32
"""Channels added by each of the block's first four convolutions."""
RESIDUAL_SCALE = 0.2
"""Factor of the block's residual."""
SLOPE = 0.2
"""Negative slope of the leaky ReLUs."""


class DenseBlock(nn.Module):
    """ESRGAN's residual dense block (Wang et al. 2018, section 3.1): each convolution gets all features before it."""

    def __init__(self) -> None:
        super().__init__()
        self.growing = nn.ModuleList(_convolution(FEATURES + i * GROWTH, GROWTH) for i in range(4))
        self.last = _convolution(FEATURES + 4 * GROWTH, FEATURES)

    def forward(self, features: Float[Tensor, "n 64 h w"]) -> Float[Tensor, "n 64 h w"]:
        """The features plus the scaled residual of five densely connected convolutions."""
        seen = features
        for convolution in self.growing:
            grown = nn.functional.leaky_relu(convolution(seen), SLOPE)
            seen = torch.cat([seen, grown], dim=1)
        return features + RESIDUAL_SCALE * self.last(seen)


class RefinementNetwork(nn.Module):
    """One dense block between a 3 -> 64 and a 64 -> 3 convolution: 243,331 parameters.

    It is initialised as the identity, so that an edit starts from the rendered picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _convolution(3, FEATURES)
        self.block = DenseBlock()
        self.last = _convolution(FEATURES, 3)
        self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        """The first three features pass the picture through; the block's residual is 0."""
        nn.init.zeros_(self.block.last.weight)
        nn.init.zeros_(self.last.weight)
        for channel in range(3):
            self.first.weight[channel] = 0.0
            self.first.weight[channel, channel, 1, 1] = 1.0
            self.last.weight[channel, channel, 1, 1] = 1.0

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """The refined picture.

        Args:
            image: the rendered picture, about [0, 1].

        Returns:
            About [0, 1]; not clamped.
        """
        return self.last(self.block(self.first(image)))


def refine(network: nn.Module, image: Float[Tensor, "n 3 h w"], weight: float) -> Float[Tensor, "n 3 h w"]:
    """The refined picture I_f = w g(I_r) + (1 - w) I_r (paper, Eq. 5).

    Args:
        network: g, or its small copy.
        image: I_r, the rendered picture.
        weight: w in [0, 1]; at 0 the network is not run.
    """
    if weight == 0.0:
        return image
    return torch.lerp(image, network(image), weight)


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3 x 3 with padding; weights a tenth of He's initialisation, for residual blocks (ESRGAN, section 3.4)."""
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    with torch.no_grad():
        layer.weight.mul_(0.1)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
