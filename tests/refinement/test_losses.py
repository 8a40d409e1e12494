"""Every loss of an edit against numbers worked out pixel by pixel in float64."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.refinement.discriminator import PatchDiscriminator
from ntalker_ns.refinement.losses import (
    adversarial_losses,
    colour_loss,
    gram_matrix,
    lip_edge_loss,
    perceptual_loss,
    reconstruction_loss,
    style_loss,
)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lip_edges_by_pixel(rendered: np.ndarray, reference: np.ndarray, mask: np.ndarray, scale: float) -> float:
    """Eq. 6, one pixel, channel and direction at a time."""
    images, channels, height, width = rendered.shape
    total = 0.0
    for n, y, x in itertools.product(range(images), range(height), range(width)):
        if not mask[n, 0, y, x]:
            continue
        for next_y, next_x in ((y, x + 1), (y + 1, x)):
            if next_y == height or next_x == width:
                continue
            for c in range(channels):
                edge = abs(rendered[n, c, next_y, next_x] - rendered[n, c, y, x])
                true = abs(reference[n, c, next_y, next_x] - reference[n, c, y, x])
                total += edge * np.exp(-scale * true) / channels
    return total / mask.sum()


def gram_by_element(features: np.ndarray) -> np.ndarray:
    images, channels, height, width = features.shape
    grams = np.zeros((images, channels, channels))
    for n, i, j in itertools.product(range(images), range(channels), range(channels)):
        grams[n, i, j] = (features[n, i] * features[n, j]).sum() / (channels * height * width)
    return grams


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_lip_edge_loss_equals_the_sum_over_pixels(scale: float):
    rendered, reference = pictures(2, 3, 6, 5), pictures(2, 3, 6, 5, seed=1)
    mask = (pictures(2, 1, 6, 5, seed=2) > 0.5).double()
    expected = lip_edges_by_pixel(rendered.numpy(), reference.numpy(), mask.numpy(), scale)
    assert lip_edge_loss(rendered, reference, mask, scale).item() == pytest.approx(expected, rel=1e-12)


def test_lip_edge_loss_forgives_edges_that_the_true_lips_have():
    edge = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    edge[..., 2:] = 1.0
    mask = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert lip_edge_loss(edge, edge, mask) == pytest.approx(np.exp(-1) * 4 / 16)
    assert lip_edge_loss(edge, torch.zeros_like(edge), mask) == pytest.approx(4 / 16)
    assert lip_edge_loss(torch.zeros_like(edge), edge, mask) == 0.0


def test_lip_edge_loss_is_blind_outside_the_mask_and_zero_without_one():
    rendered, reference = pictures(1, 3, 6, 6), pictures(1, 3, 6, 6, seed=1)
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    assert lip_edge_loss(rendered, reference, mask) == 0.0
    mask[..., 1:3, 1:3] = 1.0
    before = lip_edge_loss(rendered, reference, mask)
    rendered[..., 4:, :], rendered[..., :, 4:] = 0.3, 0.3
    assert lip_edge_loss(rendered, reference, mask) == before


def test_lip_edge_loss_gradient():
    rendered = pictures(1, 2, 4, 4).requires_grad_()
    reference, mask = pictures(1, 2, 4, 4, seed=1), torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda image: lip_edge_loss(image, reference, mask), (rendered,))


def test_reconstruction_is_the_mean_squared_difference():
    one, other = pictures(2, 3, 4, 5), pictures(2, 3, 4, 5, seed=1)
    assert reconstruction_loss(one, other).item() == pytest.approx(((one.numpy() - other.numpy()) ** 2).mean())


def test_feature_losses_sum_means_over_layers():
    ours = [pictures(1, 4, 6, 6), pictures(1, 7, 3, 3, seed=1)]
    theirs = [pictures(1, 4, 6, 6, seed=2), pictures(1, 7, 3, 3, seed=3)]
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(ours, theirs, strict=True)]
    expected = sum(np.abs(a - b).mean() for a, b in pairs)
    assert perceptual_loss(ours, theirs).item() == pytest.approx(expected, rel=1e-12)
    expected = sum(np.abs(gram_by_element(a) - gram_by_element(b)).mean() for a, b in pairs)
    assert style_loss(ours, theirs).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_style_does_not_see_where_things_are(channels: int, side: int, seed: int):
    features = pictures(1, channels, side, side, seed=seed)
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))
    shuffled = features.flatten(2)[..., order].view_as(features)
    torch.testing.assert_close(gram_matrix(features), gram_matrix(shuffled))


def small_discriminator() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator((4, 8)).double()


def test_adversarial_losses_are_logarithms_of_probabilities():
    discriminator = small_discriminator().eval()
    final, edited = pictures(1, 3, 16, 16), pictures(1, 3, 16, 16, seed=1)
    generator, critic = adversarial_losses(discriminator, final, edited)

    def probability(image: torch.Tensor) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-discriminator(image).detach().numpy()))

    assert generator.item() == pytest.approx(-np.log(probability(final)).mean(), rel=1e-10)
    expected = -np.log(probability(edited)).mean() - np.log(1.0 - probability(final)).mean()
    assert critic.item() == pytest.approx(expected, rel=1e-10)


def test_one_backward_serves_both_sides_and_neither_reaches_the_other():
    discriminator, edited = small_discriminator().eval(), pictures(1, 3, 16, 16, seed=1)
    final = pictures(1, 3, 16, 16).requires_grad_()
    sum(adversarial_losses(discriminator, final, edited)).backward()  # type: ignore[union-attr]
    together = [final.grad.clone(), *(p.grad.clone() for p in discriminator.parameters())]  # type: ignore[union-attr]
    final.grad = None
    discriminator.zero_grad()
    generator, critic = adversarial_losses(discriminator, final, edited)
    generator.backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    torch.testing.assert_close(final.grad, together[0])
    critic.backward()
    torch.testing.assert_close(final.grad, together[0])  # Unchanged: the critic's side sees detached pictures.
    for parameter, expected in zip(discriminator.parameters(), together[1:], strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_a_discriminator_learns_to_tell_noise_from_grey():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator((8, 16))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-3)
    grey = torch.full((2, 3, 32, 32), 0.5)
    for _ in range(60):
        loss = adversarial_losses(discriminator, grey, torch.rand(2, 3, 32, 32))[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert discriminator(torch.rand(2, 3, 32, 32)).mean() > discriminator(grey).mean() + 1.0


def test_colours_are_compared_by_their_means_over_squares():
    final, edited = torch.rand(2, 1, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [
        (final[0, :, y : y + 8, x : x + 8] - edited[0, :, y : y + 8, x : x + 8]).mean(dim=(1, 2)).square().mean()
        for y in (0, 8)
        for x in (0, 8, 16)
    ]
    torch.testing.assert_close(colour_loss(final, edited), torch.stack(expected).mean())
    # Detail may differ, a tint may not.
    checks = 0.2 * (-1.0) ** torch.arange(24, dtype=torch.float64)
    assert float(colour_loss(edited + checks, edited)) < 1e-12
    assert float(colour_loss(edited + 0.1, edited)) > 0.009
    assert float(colour_loss(final[..., :4, :4], edited[..., :4, :4])) > 0.0
