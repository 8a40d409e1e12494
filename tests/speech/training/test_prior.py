"""The prior over speakers learns from examples."""

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.speech.training.prior import BankExample, fit_prior

INPUTS, POINTS = 12, 20


def an_example(seed: int, frames: int = 400) -> BankExample:
    """Two directions of movement: one follows the inputs, the other the size of one of them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(frames, INPUTS, generator=generator, dtype=torch.float64)
    codes = torch.stack([inputs[:, 0], 2.0 * inputs[:, 1].abs()], dim=1)
    directions, _ = torch.linalg.qr(torch.arange(4.0 * POINTS, dtype=torch.float64).sin().view(2 * POINTS, 2))
    moved = codes @ directions.T + 0.05 * torch.randn(frames, 2 * POINTS, generator=generator, dtype=torch.float64)
    return BankExample(str(seed), inputs - inputs.mean(dim=0), moved - moved.mean(dim=0))


def explained(predicted: Float[Tensor, "frames coordinates"], example: BankExample) -> float:
    left = example.displacements - (predicted - predicted.mean(dim=0))
    return 1.0 - float(left.square().sum() / example.displacements.square().sum())


def test_it_explains_what_a_linear_map_cannot():
    clips, new = [an_example(seed) for seed in range(8)], an_example(99)
    prior = fit_prior(clips)
    basis = prior.basis.flatten(1)
    both = explained(prior.codes(new.inputs) @ basis, new)
    linear = explained(2.0 * new.inputs @ prior.weights @ basis, new)
    assert linear < 0.5
    assert both > linear + 0.1


def test_it_is_learned_alike_each_time_and_leaves_random_numbers_alone():
    clips = [an_example(seed, 60) for seed in range(2)]
    torch.manual_seed(0)
    first = fit_prior(clips)
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(()), after)
    second = fit_prior(clips)
    torch.testing.assert_close(first.network.output, second.network.output)
    torch.testing.assert_close(first.weights, second.weights)
