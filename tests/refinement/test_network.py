"""The refinement network against a version written out in float64."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from ntalker_ns.refinement.network import RefinementNetwork, refine


def randomised() -> RefinementNetwork:
    """A network whose every weight matters."""
    torch.manual_seed(0)
    network = RefinementNetwork().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.1)
    return network


def written_out(weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    def convolve(name: str, values: torch.Tensor) -> torch.Tensor:
        return conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def leaky(values: torch.Tensor) -> torch.Tensor:
        return torch.where(values > 0, values, 0.2 * values)

    x0 = convolve("first", image)
    x1 = leaky(convolve("block.growing.0", x0))
    x2 = leaky(convolve("block.growing.1", torch.cat([x0, x1], 1)))
    x3 = leaky(convolve("block.growing.2", torch.cat([x0, x1, x2], 1)))
    x4 = leaky(convolve("block.growing.3", torch.cat([x0, x1, x2, x3], 1)))
    x5 = convolve("block.last", torch.cat([x0, x1, x2, x3, x4], 1))
    return convolve("last", x0 + 0.2 * x5)


def test_size_is_appendix_bs():
    parameters = sum(parameter.numel() for parameter in RefinementNetwork().parameters())
    assert parameters == 243_331
    assert 0.9e6 < 4 * parameters < 1.05e6  # "just 1MB"


def test_forward_equals_the_written_out_block():
    network, image = randomised(), torch.rand(2, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(network(image), written_out(dict(network.state_dict()), image), rtol=1e-12, atol=1e-12)


def test_it_starts_as_the_identity_and_can_learn():
    torch.manual_seed(1)
    network, image = RefinementNetwork(), torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(network(image), image)
    (network(image) - torch.rand(1, 3, 8, 8)).square().mean().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad.abs().max() > 0}  # type: ignore[union-attr]
    assert {"first.weight", "block.last.weight", "last.weight"} <= moved


@pytest.mark.parametrize("weight", [0.0, 0.4, 0.8, 1.0])
def test_weight_mixes_as_equation_5_says(weight: float):
    network, image = randomised(), torch.rand(1, 3, 6, 6, dtype=torch.float64)
    expected = weight * network(image).detach().numpy() + (1 - weight) * image.numpy()
    np.testing.assert_allclose(refine(network, image, weight).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_weight_zero_does_not_run_the_network():
    network, image = RefinementNetwork(), torch.rand(1, 3, 4, 4)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    assert refine(network, image, 0.0) is image
    assert not calls
    refine(network, image, 0.1)
    assert calls == [1]
