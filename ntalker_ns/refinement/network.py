"""The refinement network g: high-frequency detail on top of what the field renders (paper, Appendix B and Eq. 5)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 64
"""Channels between the block's ends."""
GROWTH = 32
"""Channels that each of the block's first four convolutions adds."""
RESIDUAL_SCALE = 0.2
"""Factor on what the block adds to its input."""
SLOPE = 0.2
"""Of the leaky ReLUs, below zero."""


class DenseBlock(nn.Module):
    """ESRGAN's residual dense block: every convolution sees all features before it, and the sum is added to the input.

    Source: Wang et al. 2018, section 3.1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.growing = nn.ModuleList(_convolution(FEATURES + i * GROWTH, GROWTH) for i in range(4))
        self.last = _convolution(FEATURES + 4 * GROWTH, FEATURES)

    def forward(self, features: Float[Tensor, "n 64 h w"]) -> Float[Tensor, "n 64 h w"]:
        """The features and, scaled, what five densely connected convolutions add to them."""
        seen = features
        for convolution in self.growing:
            grown = nn.functional.leaky_relu(convolution(seen), SLOPE)
            seen = torch.cat([seen, grown], dim=1)
        return features + RESIDUAL_SCALE * self.last(seen)


class RefinementNetwork(nn.Module):
    """One dense block between a 3 -> 64 and a 64 -> 3 convolution: 243,331 parameters.

    It starts as the identity, so that an edit starts from what the field renders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _convolution(3, FEATURES)
        self.block = DenseBlock()
        self.last = _convolution(FEATURES, 3)
        self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        """The first three features carry the picture through, and the block adds nothing yet."""
        nn.init.zeros_(self.block.last.weight)
        nn.init.zeros_(self.last.weight)
        for channel in range(3):
            self.first.weight[channel] = 0.0
            self.first.weight[channel, channel, 1, 1] = 1.0
            self.last.weight[channel, channel, 1, 1] = 1.0

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """A picture with detail of its own.

        Args:
            image: the field's picture, about [0, 1].

        Returns:
            About [0, 1]; not clamped.
        """
        return self.last(self.block(self.first(image)))


def refine(network: RefinementNetwork, image: Float[Tensor, "n 3 h w"], weight: float) -> Float[Tensor, "n 3 h w"]:
    """The final picture, w g(I_r) + (1 - w) I_r (paper, Eq. 5).

    Args:
        network: g.
        image: I_r, the field's picture.
        weight: w in [0, 1]; at 0 the network is not asked at all.
    """
    if weight == 0.0:
        return image
    return torch.lerp(image, network(image), weight)


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3 x 3, the size kept; weights a tenth of He's, as residual blocks want them (ESRGAN, section 3.4)."""
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    with torch.no_grad():
        layer.weight.mul_(0.1)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
