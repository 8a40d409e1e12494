"""The losses of an edit (paper, Eq. 6 to 8 and the adversarial loss), each a mean and not yet weighted."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ntalker_ns.refinement.discriminator import PatchDiscriminator


def reconstruction_loss(rendered: Float[Tensor, "n 3 h w"], edited: Float[Tensor, "n 3 h w"]) -> Tensor:
    """Mean squared difference (Eq. 7)."""
    return functional.mse_loss(rendered, edited)


def perceptual_loss(
    features: Sequence[Float[Tensor, "n _ _ _"]], targets: Sequence[Float[Tensor, "n _ _ _"]]
) -> Tensor:
    """Mean absolute difference of a network's features, summed over its layers (Eq. 8).

    Args:
        features: of the final picture, one tensor a layer.
        targets: of the edited frame.
    """
    return _summed([functional.l1_loss(one, other) for one, other in zip(features, targets, strict=True)])


def style_loss(features: Sequence[Float[Tensor, "n _ _ _"]], targets: Sequence[Float[Tensor, "n _ _ _"]]) -> Tensor:
    """Mean absolute difference of the features' Gram matrices, summed over the layers (Eq. 8).

    Args:
        features: of the final picture, one tensor a layer.
        targets: of the edited frame.
    """
    pairs = zip(features, targets, strict=True)
    return _summed([functional.l1_loss(gram_matrix(one), gram_matrix(other)) for one, other in pairs])


def gram_matrix(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    """Inner products of the channels, F F^T / (C H W)."""
    flat = features.flatten(start_dim=2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def adversarial_losses(
    discriminator: PatchDiscriminator, final: Float[Tensor, "n 3 h w"], edited: Float[Tensor, "n 3 h w"]
) -> tuple[Tensor, Tensor]:
    """The two sides of the game (Goodfellow et al. 2014, non-saturating), to be added and sent back at once.

    The first reaches only the picture, the second only the discriminator, so one backward serves both.

    Args:
        discriminator: says what looks like an edited frame.
        final: I_f.
        edited: I^e.

    Returns:
        How far the picture is from deceiving the discriminator, and how far the discriminator is from telling the
        two apart.
    """
    generator = functional.softplus(-discriminator.frozen(final)).mean()
    real = functional.softplus(-discriminator(edited)).mean()
    fake = functional.softplus(discriminator(final.detach())).mean()
    return generator, real + fake


def lip_edge_loss(
    rendered: Float[Tensor, "n c h w"],
    reference: Float[Tensor, "n c h w"],
    mask: Float[Tensor, "n 1 h w"],
    scale: float = 1.0,
) -> Tensor:
    """Edges inside the lips, except where the true lips have them (Eq. 6).

    Args:
        rendered: I_r.
        reference: I, the unedited picture whose edges are right.
        mask: 1 on the lips, 0 elsewhere.
        scale: factor in the exponent; 1 is the paper's.

    Returns:
        The mean over the mask's pixels of |dI_r| exp(-scale |dI|), averaged over channels and summed over forward
        differences in x and y; 0 where the mask is empty.
    """
    total = rendered.new_zeros(())
    for axis in (2, 3):
        edges = forward_difference(rendered, axis).abs()
        allowed = (-scale * forward_difference(reference, axis).abs()).exp()
        inside = mask.narrow(axis, 0, mask.shape[axis] - 1)
        total = total + (edges * allowed * inside).mean(dim=1).sum()
    return total / mask.sum().clamp(min=1.0)


def forward_difference(image: Float[Tensor, "n c h w"], axis: int) -> Tensor:
    """Each pixel's difference to the next along an axis; that axis gets one shorter."""
    length = image.shape[axis] - 1
    return image.narrow(axis, 1, length) - image.narrow(axis, 0, length)


def _summed(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
