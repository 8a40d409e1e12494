"""The small copy of the refinement network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.refinement.network import RefinementNetwork
from ntalker_ns.refinement.small import FAITHFUL, SmallRefinement, distil


def sharpening(amount: float) -> RefinementNetwork:
    """A network that adds a Laplacian to each colour, as edits teach it to sharpen."""
    network = RefinementNetwork()
    with torch.no_grad():
        for channel in range(3):
            kernel = -amount * torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
            kernel[1, 1] += 1.0
            network.first.weight[channel, channel] = kernel
    return network


def pictures(count: int, side: int = 48, seed: int = 0) -> torch.Tensor:
    """Smooth patches with an edge."""
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (side, side), mode="bicubic")
    smooth[..., : side // 2] *= 0.6
    return smooth.clamp(0.0, 1.0)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9))
def test_at_the_start_it_is_the_identity_at_any_size(height: int, width: int):
    image = torch.rand(2, 3, height, width)
    assert torch.equal(SmallRefinement()(image), image)


def test_its_size_is_a_fortieth_of_the_networks():
    count = sum(parameter.numel() for parameter in SmallRefinement().parameters())
    assert count == 5_804 < 243_331 / 40


def test_it_learns_what_the_network_does_to_pictures_of_one_kind():
    network, small, new = sharpening(0.15), SmallRefinement(), pictures(3, seed=1)
    fidelity = distil(network, small, pictures(8))
    wanted = network(new).detach()
    error, unrefined = ((picture - wanted).square().mean() for picture in (small(new).detach(), new))
    assert bool(small.ready) and fidelity >= FAITHFUL
    assert error < unrefined / 30
    assert -10.0 * torch.log10(error) == pytest.approx(fidelity, abs=3.0)
    before = small(new).detach()
    assert distil(network, small, pictures(8)) == fidelity and torch.equal(small(new).detach(), before)


def test_what_it_cannot_copy_is_left_to_the_network():
    class Noise(RefinementNetwork):
        """Adds what depends on nothing that the copy sees."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + 0.2 * torch.randn(
                image.shape, generator=torch.Generator().manual_seed(int(1e4 * image.sum()))
            )

    small = SmallRefinement()
    assert distil(Noise(), small, pictures(4)) < 20.0
    assert not small.ready


def test_one_picture_is_enough_to_copy_and_training_on_undoes_it():
    small, image = SmallRefinement(), pictures(1)
    distil(sharpening(0.2), small, image)
    assert small.ready and not torch.equal(small(image), image)
    small.reset()
    assert not small.ready and torch.equal(small(image), image)
