"""The prior over speakers, adapted to one person by their own clip.

The prior predicts how lips move with speech in general; the clip gives how far this person's move, in which components,
and a little of how theirs differ. Both enter one linear regression of the residual of the prior's network: the
posterior mean under a Gaussian prior.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.speech.closures import ClosureReadout, LipClosing
from ntalker_ns.speech.lip_regression import cross_validated, gains
from ntalker_ns.speech.prior import BINS, HIDDEN, CodeNetwork, LipPrior, load_prior, window_inputs

OWN_WEIGHT, OTHER_WEIGHTS = 10.0, (30.0, 100.0)
"""Weight of a frame of the person's own clip, over one of the prior's. With one weight for all of 24 people of 4 to
20 s, each left out of the prior, held-out fifths correlate with 0.70 (3), 0.71 (10), 0.70 (30), 0.67 (100). A clip
whose lips follow the sound more closely than people's do (a long one, an animated head) is better off with more."""

LEAST_GAIN = 0.15
"""Part of the squared error, by cross-validation on the clip, that another weight must save to be taken: on seconds of
video, smaller differences are chance."""

RESTORED = 0.75
"""How much of a person's amplitude is restored, see `gains`. Three clips' predicted openings, held out, move by 0.89,
0.71 and 0.80 of the true amplitude with 0.5 and by 0.99, 0.83, 0.90 with 0.75; the squared error rises by 0.02 of the
variance. With 1 it would rise by 0.06, for 1.08, 0.85, 0.99."""

SILENCE_WEIGHT = 0.2
"""Weight of silence, over that of the whole clip."""


class AdaptedPrior(nn.Module):
    """From windows of Whisper features to lip shapes. Before it is fitted it predicts zeros."""

    def __init__(
        self, channels: int, lip_basis: Float[Tensor, "lip_dim points 2"], readout: ClosureReadout | None = None
    ) -> None:
        """
        Args:
            channels: of the features.
            lip_basis: displacements of the person's landmarks for a lip shape of 1 (x and z, world units).
            readout: of closed lips from the features; None: lips close only where `closed` of `lip_shapes` is given.
        """
        super().__init__()
        self.closing, self._readout = LipClosing(lip_basis), readout
        self.lip_basis = lip_basis.double()
        inputs, lip_dim = BINS * channels, len(lip_basis)
        self.register_buffer("weights", torch.zeros(inputs, lip_dim))
        self.register_buffer("hidden", torch.zeros(inputs, HIDDEN))
        self.register_buffer("hidden_bias", torch.zeros(HIDDEN))
        self.register_buffer("output", torch.zeros(HIDDEN, lip_dim))
        self.register_buffer("offset", torch.zeros(lip_dim))
        self.register_buffer("bounds", torch.zeros(2, lip_dim))

    @torch.no_grad()
    def lip_shapes(
        self, features: Float[Tensor, "frames 16 channels"], closed: Float[Tensor, "frames 2"] | None = None
    ) -> Float[Tensor, "frames lip_dim"]:
        """The lip shape of each window of features, within the range of the clip.

        Args:
            features: windows.
            closed: how likely lips meet, and lip and teeth, if that is known; None reads it from the features.
        """
        network = CodeNetwork(*(self.get_buffer(name) for name in ("hidden", "hidden_bias", "output")))
        weights, offset, bounds = (self.get_buffer(name) for name in ("weights", "offset", "bounds"))
        with torch.autocast(features.device.type, enabled=False):
            inputs = window_inputs(features)
            shapes = (offset + inputs @ weights + network(inputs)).clamp(*bounds)
            if closed is None and self._readout is not None:
                closed = self._readout(features)
            return self.closing(shapes, closed).clamp(*bounds)

    @torch.no_grad()
    def fit(
        self,
        features: Float[Tensor, "frames 16 channels"],
        shapes: Float[Tensor, "frames lip_dim"],
        silence: tuple[Float[Tensor, "silent 16 channels"], Float[Tensor, "silent lip_dim"]] | None = None,
        prior: LipPrior | None = None,
    ) -> None:
        """Adapts the prior.

        Args:
            features: one window per frame, in the clip's order.
            shapes: of the lips in them.
            silence: windows without speech, and the lips' shape in them.
            prior: over speakers; None takes the one that comes with the package.
        """
        prior = load_prior() if prior is None else prior
        self.closing.fit(shapes)
        inputs, shapes = window_inputs(features.double().cpu()), shapes.double().cpu()
        mean, mean_shape = inputs.mean(dim=0), shapes.mean(dim=0)
        inputs, centred = inputs - mean, shapes - mean_shape
        codes = person_basis(prior, centred, self.lip_basis)
        network = PersonNetwork.of(prior.network, inputs, codes)
        by_network, expected = network(inputs), prior.weights @ codes
        residual = centred - by_network
        gram, moment = _silence_terms(silence, mean, lambda quiet: mean_shape + network(quiet), residual)

        def posterior(frames: np.ndarray, weight: float) -> Float[Tensor, "inputs lip_dim"]:
            own = inputs[frames]
            precision = prior.precision + weight * (own.T @ own + gram)
            right = prior.precision @ expected + weight * (own.T @ residual[frames] + moment)
            return torch.linalg.solve(precision, right)

        def held_out(weight: float) -> Float[Tensor, "frames lip_dim"]:
            by_regression = cross_validated(lambda fold, others: inputs[fold] @ posterior(others, weight), residual)
            return by_network + by_regression

        best, predicted = _best_weight(held_out, centred)
        size = gains(predicted, centred, RESTORED)
        weights = posterior(np.arange(len(inputs)), best) * size
        found = {
            "weights": weights,
            "hidden": network.network.hidden,
            "hidden_bias": network.network.hidden_bias - mean @ network.network.hidden,
            "output": network.network.output * size,
            "offset": mean_shape - mean @ weights - network.constant * size,
            "bounds": torch.stack([shapes.amin(dim=0), shapes.amax(dim=0)]),
        }
        for name, value in found.items():
            self.get_buffer(name).copy_(value)


@dataclass(frozen=True)
class PersonNetwork:
    """The prior's network with one person's lip shapes as its output, less its mean over their clip."""

    network: CodeNetwork
    constant: Float[Tensor, " lip_dim"]
    """That mean."""

    @classmethod
    def of(
        cls, network: CodeNetwork, inputs: Float[Tensor, "frames inputs"], codes: Float[Tensor, "codes lip_dim"]
    ) -> "PersonNetwork":
        """The network of a person.

        Args:
            network: the prior's.
            inputs: of the person's clip, less their mean.
            codes: of `person_basis`.
        """
        own = replace(network, output=network.output @ codes)
        return cls(own, own(inputs).mean(dim=0))

    def __call__(self, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, "n lip_dim"]:
        """Lip shapes, less the clip's mean, of inputs less the clip's mean."""
        return self.network(inputs) - self.constant


def person_basis(
    prior: LipPrior, shapes: Float[Tensor, "frames lip_dim"], lip_basis: Float[Tensor, "lip_dim points 2"]
) -> Float[Tensor, "codes lip_dim"]:
    """The lip shape that each of the prior's codes stands for in one person: the least-squares fit of the prior's
    displacements, made as large as the person's, by the person's basis.

    Args:
        prior: over speakers.
        shapes: of the person's clip, less their mean.
        lip_basis: displacements of the person's landmarks for a shape of 1.
    """
    basis = lip_basis.flatten(1)
    size = (shapes @ basis).square().sum(dim=1).mean().sqrt()
    return size * prior.basis_of(lip_basis.shape[1]).flatten(1) @ torch.linalg.pinv(basis)


def _best_weight(
    held_out: Callable[[float], Float[Tensor, "frames lip_dim"]], shapes: Float[Tensor, "frames lip_dim"]
) -> tuple[float, Float[Tensor, "frames lip_dim"]]:
    """The weight of the clip's frames, and its predictions: another than `OWN_WEIGHT` only where it saves enough."""
    predictions = {weight: held_out(weight) for weight in (OWN_WEIGHT, *OTHER_WEIGHTS)}
    errors = {weight: float((each - shapes).square().sum()) for weight, each in predictions.items()}
    best = min(errors, key=lambda weight: errors[weight])
    if errors[best] > (1.0 - LEAST_GAIN) * errors[OWN_WEIGHT]:
        best = OWN_WEIGHT
    return best, predictions[best]


def _silence_terms(
    silence: tuple[Tensor, Tensor] | None,
    mean: Float[Tensor, " inputs"],
    by_network: Callable[[Float[Tensor, "silent inputs"]], Float[Tensor, "silent lip_dim"]],
    residual: Float[Tensor, "frames lip_dim"],
) -> tuple[Float[Tensor, "inputs inputs"], Float[Tensor, "inputs lip_dim"]]:
    """What silence adds to the regression's Gram matrix and to its right-hand side.

    Args:
        silence: windows and lip shapes.
        mean: of the clip's inputs.
        by_network: the lip shapes that the network predicts.
        residual: targets of the regression in the clip.
    """
    if silence is None or not len(silence[0]):
        return mean.new_zeros(len(mean), len(mean)), mean.new_zeros(len(mean), residual.shape[1])
    windows, shapes = (part.double().cpu() for part in silence)
    inputs = window_inputs(windows) - mean
    weight = SILENCE_WEIGHT * len(residual) / len(inputs)
    return weight * inputs.T @ inputs, weight * inputs.T @ (shapes - by_network(inputs))
