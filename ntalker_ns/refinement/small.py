"""A small copy of the refinement network, for frames in real time on a CPU.

The network takes 480,000 multiplications and additions a pixel, a hundred times as long as a head of Gaussians. What it
does to the pictures of one edited head is much simpler than what it could do: three convolutions learn it from a few of
its pictures within seconds.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntalker_ns.refinement.network import SLOPE, RefinementNetwork

BLOCK = 2
"""Side of the blocks of pixels that are one place of the convolutions."""
CHANNELS = 16
STEPS, CROPS, SIDE, RATE = 600, 4, 64, 6e-3
"""Training steps, crops a step, their side in px, and the largest learning rate."""
FAITHFUL = 40.0
"""PSNR in dB beside the network's pictures from which on the copy replaces it: off by 2.5 grey levels of 255."""


class SmallRefinement(nn.Module):
    """Three 3 x 3 convolutions on blocks of 2 x 2 pixels, whose result is added: 5,804 parameters."""

    ready: Bool[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        colours = 3 * BLOCK**2
        self.first = nn.Conv2d(colours, CHANNELS, kernel_size=3, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1)
        self.last = nn.Conv2d(CHANNELS, colours, kernel_size=3, padding=1)
        # Whether its pictures are close enough to the network's to replace them.
        self.register_buffer("ready", torch.tensor(False))
        self.reset()
        # Trained by `distil` alone: several processes that train a head together ask for gradients of all parameters.
        self.requires_grad_(False)

    @torch.no_grad()
    def reset(self) -> None:
        """Initialises the weights anew: as the identity, and not ready."""
        generator = torch.Generator().manual_seed(0)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=generator)
        nn.init.zeros_(self.last.weight)
        for layer in (self.first, self.second, self.last):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.ready.fill_(False)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """The refined picture.

        Args:
            image: the rendered picture, about [0, 1].

        Returns:
            About [0, 1]; not clamped.
        """
        height, width = image.shape[-2:]
        whole = nn.functional.pad(image, (0, width % BLOCK, 0, height % BLOCK), mode="replicate")
        features = nn.functional.leaky_relu(self.first(nn.functional.pixel_unshuffle(whole, BLOCK)), SLOPE)
        features = nn.functional.leaky_relu(self.second(features), SLOPE)
        return image + nn.functional.pixel_shuffle(self.last(features), BLOCK)[..., :height, :width]


@torch.enable_grad()
def distil(network: RefinementNetwork, small: SmallRefinement, pictures: Float[Tensor, "n 3 h w"]) -> float:
    """Trains the small copy from scratch (distillation: Hinton et al. 2015); every fourth picture is held out.

    Args:
        network: what is copied.
        small: its copy; `ready` is set if the returned PSNR is at least `FAITHFUL`.
        pictures: rendered by the head that the network refines.

    Returns:
        PSNR between the copy's and the network's held-out pictures, dB; a single picture is not held out.
    """
    with torch.no_grad():
        refined = torch.cat([network(picture[None]) for picture in pictures])
    held_out = torch.arange(len(pictures)) % 4 == min(3, len(pictures) - 1)
    small.reset()
    small.requires_grad_(True)
    optimizer = torch.optim.Adam(small.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    generator = torch.Generator().manual_seed(0)
    learned = ~held_out if len(pictures) > 1 else held_out
    given, wanted = pictures[learned], refined[learned]
    for _ in range(STEPS):
        places = [_crop(given.shape, generator) for _ in range(CROPS)]
        crops, targets = (torch.stack([whole[place] for place in places]) for whole in (given, wanted))
        optimizer.zero_grad()
        (small(crops) - targets).abs().mean().backward()
        optimizer.step()
        schedule.step()
    small.requires_grad_(False)
    with torch.no_grad():
        error = (small(pictures[held_out]) - refined[held_out]).square().mean()
    fidelity = float(-10.0 * torch.log10(error.clamp(min=1e-10)))
    small.ready.fill_(fidelity >= FAITHFUL)
    return fidelity


def _crop(shape: torch.Size, generator: torch.Generator) -> tuple[int, slice, slice, slice]:
    """The index of a square somewhere in one of some pictures."""
    count, _, height, width = shape
    side = min(SIDE, height, width)
    which, row, column = (
        int(torch.randint(high, (1,), generator=generator)) for high in (count, height - side + 1, width - side + 1)
    )
    return which, slice(None), slice(row, row + side), slice(column, column + side)
