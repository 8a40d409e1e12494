"""The losses of an edit (paper, Eq. 6 to 10): their weighted sum first, then each term as an unweighted mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ntalker_ns.refinement.discriminator import PatchDiscriminator

FeatureNetwork = Callable[[Float[Tensor, "n 3 h w"]], list[Tensor]]
"""The features of pictures in [0, 1] at some layers of a network: `VGGFeatures` or `EfficientNetFeatures`."""
COLOUR_SQUARE = 8
"""Side in px of the squares whose mean colours are compared."""


@dataclass
class EditLossWeights:
    """Weights of the terms of an edit's loss; 0 disables a term."""

    reconstruction_weight: float = 1.0
    """Weight of the squared difference between the rendered picture and the edited frame (Eq. 7)."""
    perceptual_weight: float = 0.001
    """Weight of the difference of a network's features between the refined picture and the edited frame (Eq. 8)."""
    style_weight: float = 10.0
    """Weight of the difference of their Gram matrices (Eq. 8)."""
    adversarial_weight: float = 0.01
    """Weight of the adversarial loss of the refined picture."""
    colour_weight: float = 0.0
    """Weight of the squared difference between the refined picture and the edited frame, both averaged over squares of
    8 px. The paper has no such term. ntalker-edit-small uses 1: where EfficientNet stands in for VGG, nothing else
    holds the refined picture's colours, and the adversarial loss can tint all of it."""
    opacity_weight: float = 1.0
    """Weight of the squared difference between the opacities of head and torso and those before the edit. The paper's
    loss (Eq. 9) has no such term; without it an edited background is partly learned as haze in front of it, and can no
    longer be replaced."""
    lip_edge_weight: float = 0.1
    """Weight of the lip-edge loss (Eq. 6), on lip patches only. 0.1 is the paper's; ntalker-edit-small uses 0.01: in
    small pictures the line between the lips is a steep edge, which 0.1 erases."""
    lip_edge_scale: float = 1.0
    """Factor in the exponent of the lip-edge loss. 1 is the paper's, which hardly spares true edges, as differences
    between pixels in [0, 1] are small. ntalker-edit-small uses 30, which spares the line between the lips."""


@dataclass(frozen=True)
class PatchOutputs:
    """What an edited head renders for a patch."""

    rendered: Float[Tensor, "1 3 side side"]
    """I_r, the picture of the fields."""
    final: Float[Tensor, "1 3 side side"]
    """I_f, the refined picture."""
    generator: Float[Tensor, ""]
    """Adversarial loss of I_f."""
    critic: Float[Tensor, ""]
    """Loss of the discriminator."""
    opacities: Float[Tensor, "rays 2"]
    """Of head and torso."""


@dataclass(frozen=True)
class PatchTargets:
    """What a patch is trained on."""

    edited: Float[Tensor, "1 3 side side"]
    """I^e, the edited frame."""
    opacities: Float[Tensor, "rays 2"]
    """Of head and torso before the edit."""
    unedited: Float[Tensor, "1 3 side side"] | None = None
    """I, the frame before the edit; on lip patches only."""
    lip_mask: Float[Tensor, "1 1 side side"] | None = None
    """1 on the lips, 0 elsewhere; on lip patches only."""


def edit_losses(
    weights: EditLossWeights, outputs: PatchOutputs, targets: PatchTargets, network: FeatureNetwork | None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 9 and 10, the discriminator's own loss, and the opacity term.

    Args:
        weights: of the terms.
        outputs: of the head.
        targets: of the same patch.
        network: of the perceptual and the style loss; None: their weights are 0.
    """
    losses = {
        "reconstruction": weights.reconstruction_weight * reconstruction_loss(outputs.rendered, targets.edited),
        "adversarial": weights.adversarial_weight * outputs.generator,
        "discriminator": outputs.critic,
        "opacity": weights.opacity_weight * (outputs.opacities - targets.opacities).square().mean(),
    }
    if weights.colour_weight > 0.0:
        losses["colour"] = weights.colour_weight * colour_loss(outputs.final, targets.edited)
    if network is not None:
        # In full precision: sums over a patch overflow half precision.
        with torch.autocast(outputs.final.device.type, enabled=False):
            features = network(outputs.final)
            with torch.no_grad():
                target_features = network(targets.edited)
            losses["perceptual"] = weights.perceptual_weight * perceptual_loss(features, target_features)
            losses["style"] = weights.style_weight * style_loss(features, target_features)
    if targets.lip_mask is not None and targets.unedited is not None:
        edges = lip_edge_loss(outputs.rendered, targets.unedited, targets.lip_mask, weights.lip_edge_scale)
        losses["lip_edge"] = weights.lip_edge_weight * edges
    return losses


def reconstruction_loss(rendered: Float[Tensor, "n 3 h w"], edited: Float[Tensor, "n 3 h w"]) -> Tensor:
    """Mean squared difference (Eq. 7)."""
    return functional.mse_loss(rendered, edited)


def colour_loss(final: Float[Tensor, "n 3 h w"], edited: Float[Tensor, "n 3 h w"]) -> Tensor:
    """Mean squared difference of averages over squares of `COLOUR_SQUARE` px: detail may differ."""
    side = min(COLOUR_SQUARE, *final.shape[2:])
    return functional.mse_loss(functional.avg_pool2d(final, side), functional.avg_pool2d(edited, side))


def perceptual_loss(features: Sequence[Float[Tensor, "n ..."]], targets: Sequence[Float[Tensor, "n ..."]]) -> Tensor:
    """Mean absolute difference of a network's features, summed over its layers (Eq. 8).

    Args:
        features: of the refined picture, one tensor per layer.
        targets: of the edited frame.
    """
    layers = [functional.l1_loss(one, other) for one, other in zip(features, targets, strict=True)]
    return sum(layers, start=layers[0].new_zeros(()))


def style_loss(features: Sequence[Float[Tensor, "n _ _ _"]], targets: Sequence[Float[Tensor, "n _ _ _"]]) -> Tensor:
    """Mean absolute difference of the features' Gram matrices, summed over the layers (Eq. 8).

    Args:
        features: of the refined picture, one tensor per layer.
        targets: of the edited frame.
    """
    return perceptual_loss([gram_matrix(one) for one in features], [gram_matrix(one) for one in targets])


def gram_matrix(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    """Inner products of the channels, F F^T / (C H W)."""
    flat = features.flatten(start_dim=2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def adversarial_losses(
    discriminator: PatchDiscriminator, final: Float[Tensor, "n 3 h w"], edited: Float[Tensor, "n 3 h w"]
) -> tuple[Tensor, Tensor]:
    """The non-saturating adversarial losses (Goodfellow et al. 2014) of generator and discriminator.

    The first has gradients only to the picture, the second only to the discriminator, so that one backward pass serves
    both.

    Args:
        discriminator: tells edited frames from refined pictures.
        final: I_f.
        edited: I^e.

    Returns:
        The generator's and the discriminator's loss.
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
    """Edges inside the lips, except where the unedited lips have them (Eq. 6).

    Args:
        rendered: I_r.
        reference: I, the unedited picture with the true edges.
        mask: 1 on the lips, 0 elsewhere.
        scale: factor in the exponent; 1 is the paper's.

    Returns:
        The mean over the mask's pixels of |dI_r| exp(-scale |dI|), averaged over channels and summed over forward
        differences in x and y; 0 if the mask is empty.
    """
    total = rendered.new_zeros(())
    for axis in (2, 3):
        edges = forward_difference(rendered, axis).abs()
        allowed = (-scale * forward_difference(reference, axis).abs()).exp()
        inside = mask.narrow(axis, 0, mask.shape[axis] - 1)
        total = total + (edges * allowed * inside).mean(dim=1).sum()
    return total / mask.sum().clamp(min=1.0)


def forward_difference(image: Float[Tensor, "n c h w"], axis: int) -> Tensor:
    """Difference of each pixel to the next along an axis, which gets shorter by one."""
    length = image.shape[axis] - 1
    return image.narrow(axis, 1, length) - image.narrow(axis, 0, length)
