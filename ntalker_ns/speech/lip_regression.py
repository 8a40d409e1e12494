"""Audio-to-lips regression: kernel ridge regression from a window of audio features to a lip shape, in closed form.

Seconds of speech are too few to train a network: RAD-NeRF's convolutions and attention, trained on four fifths of a
clip, hardly predict the last fifth. This needs no training steps and gives the same result every time.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.speech.closures import LipClosing

BINS = 8
"""Parts of a window, equally long, within which features are averaged."""

TAPER = (0.2, 1.0, 1.0, 0.2)
"""Weights of the features from the beginning to the end of the window, interpolated."""

MAX_DEVIATION = 3.0
"""Standard deviations from their mean at which features are clipped: new audio comes from another room and another
microphone."""

LOCAL, WIDTH = 0.4, 0.25
"""Fraction of the kernel that is local, a Gaussian, and its variance over the mean squared length of inputs. The rest
is linear."""

NOISE = 0.1
"""Variance of lip shapes that audio does not explain, over that which it explains."""

MAX_EXAMPLES = 2048
"""Most frames that are kept as examples, evenly spaced: neighbours are almost the same."""

FOLDS, GUARD = 5, 8
"""Folds of the cross-validation in `gains`, and the frames left out on either side of a fold."""

MAX_GAIN = 2.0
"""Largest factor on predicted shapes, see `gains`."""


class LipRegression(nn.Module):
    """Predicts shapes of lips and jaw from audio features; zeros until it is fitted."""

    mean: Tensor
    scale: Tensor
    limits: Tensor
    examples: Tensor
    coefficients: Tensor
    mean_shape: Tensor
    bounds: Tensor

    def __init__(self, channels: int, lip_basis: Float[Tensor, "lip_dim points 2"], frames: int) -> None:
        """
        Args:
            channels: of the audio features.
            lip_basis: displacements of the person's landmarks for a lip shape of 1 (x and z, world units).
            frames: most frames that it will be fitted to.
        """
        super().__init__()
        self.closing = LipClosing(lip_basis)
        inputs, examples, lip_dim = BINS * channels, min(frames, MAX_EXAMPLES), len(lip_basis)
        for name in ("mean", "scale", "limits"):
            self.register_buffer(name, torch.zeros(inputs))
        self.register_buffer("examples", torch.zeros(examples, inputs))
        self.register_buffer("coefficients", torch.zeros(examples, lip_dim))
        self.register_buffer("mean_shape", torch.zeros(lip_dim))
        self.register_buffer("bounds", torch.zeros(2, lip_dim))

    @torch.no_grad()
    def lip_shapes(
        self, features: Float[Tensor, "frames 16 channels"], closed: Float[Tensor, "frames 2"] | None = None
    ) -> Float[Tensor, "frames lip_dim"]:
        """The lip shape of each window of features, within the range of the clip.

        Args:
            features: windows.
            closed: how likely lips meet, and lip and teeth; None where it is not known.
        """
        with torch.autocast(features.device.type, enabled=False):
            inputs = ((binned(features) - self.mean) * self.scale).clamp(-self.limits, self.limits)
            shapes = (self.mean_shape + similarity(inputs, self.examples) @ self.coefficients).clamp(*self.bounds)
            return self.closing(shapes, closed).clamp(*self.bounds)

    @torch.no_grad()
    def fit(
        self,
        features: Float[Tensor, "frames 16 channels"],
        shapes: Float[Tensor, "frames lip_dim"],
        silence: tuple[Float[Tensor, "silent 16 channels"], Float[Tensor, "silent lip_dim"]] | None = None,
    ) -> None:
        """Fits the regression to a clip.

        Args:
            features: one window per frame, in the clip's order.
            shapes: of the lips in those frames.
            silence: windows without speech, and the lip shape of each.
        """
        self.closing.fit(shapes)
        if silence is not None:
            features, shapes = (torch.cat(pair) for pair in zip((features, shapes), silence, strict=True))
        kept = evenly_spaced(min(len(self.examples), len(features)), len(features))
        inputs, shapes = binned(features.double().cpu()[kept]), shapes.double().cpu()[kept]
        mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
        # Inputs that hardly vary in the clip carry no information and must not be amplified.
        scale = window_taper(features.shape[-1]) / deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-12)
        limits = MAX_DEVIATION * scale * deviation
        inputs = ((inputs - mean) * scale).clamp(-limits, limits)
        length = inputs.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
        examples, mean_shape = inputs / length, shapes.mean(dim=0)
        kernel, centred = similarity(examples, examples), shapes - mean_shape

        def predict(fold: np.ndarray, others: np.ndarray) -> Float[Tensor, "fold lip_dim"]:
            return kernel[np.ix_(fold, others)] @ solve(kernel[np.ix_(others, others)], centred[others])

        coefficients = gains(cross_validated(predict, centred), centred) * solve(kernel, centred)
        self.mean.copy_(mean)
        self.scale.copy_(scale / length)
        self.limits.copy_(limits / length)
        self.mean_shape.copy_(mean_shape)
        self.bounds.copy_(torch.stack([shapes.amin(dim=0), shapes.amax(dim=0)]))
        for rows, values in ((self.examples, examples), (self.coefficients, coefficients)):
            rows.zero_()[: len(kept)] = values.to(rows)


def binned(windows: Float[Tensor, "frames 16 channels"]) -> Float[Tensor, "frames inputs"]:
    """Features averaged within the parts of each window, one part after the other."""
    return windows.unflatten(1, (BINS, -1)).mean(dim=2).flatten(1)


def window_taper(channels: int) -> Float[Tensor, "inputs"]:
    """The weight of each binned feature by its position in the window."""
    middles = np.linspace(0.0, 1.0, BINS)
    weights = np.interp(middles, np.linspace(0.0, 1.0, len(TAPER)), TAPER)
    return torch.from_numpy(weights).repeat_interleave(channels)


def similarity(one: Float[Tensor, "n inputs"], other: Float[Tensor, "m inputs"]) -> Float[Tensor, "n m"]:
    """The kernel (1 - LOCAL) x.y + LOCAL exp(-|x - y|^2 / (2 WIDTH)), for inputs whose mean squared length is 1."""
    products = one @ other.T
    apart = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1) - 2.0 * products
    return (1.0 - LOCAL) * products + LOCAL * torch.exp(apart.clamp(min=0.0) / (-2.0 * WIDTH))


def solve(kernel: Float[Tensor, "n n"], shapes: Float[Tensor, "n lip_dim"]) -> Float[Tensor, "n lip_dim"]:
    """The coefficients of ridge regression, (K + NOISE I)^-1 y."""
    return torch.linalg.solve(kernel + NOISE * torch.eye(len(kernel), dtype=kernel.dtype), shapes)


def cross_validated(
    predict: Callable[[np.ndarray, np.ndarray], Float[Tensor, "fold lip_dim"]], shapes: Float[Tensor, "frames lip_dim"]
) -> Float[Tensor, "frames lip_dim"]:
    """Predictions of each fold of a clip from the others, without the frames next to it.

    Args:
        predict: the shapes of some frames, from a fit to others.
        shapes: of the clip's frames in order, less their mean.
    """
    frames = np.arange(len(shapes))
    predicted = torch.zeros_like(shapes)
    for fold in np.array_split(frames, FOLDS):
        if len(fold):
            others = frames[(frames < fold[0] - GUARD) | (frames > fold[-1] + GUARD)]
            predicted[fold] = predict(fold, others)
    return predicted


def gains(
    predicted: Float[Tensor, "frames lip_dim"], shapes: Float[Tensor, "frames lip_dim"], restored: float = 0.5
) -> Float[Tensor, "lip_dim"]:
    """The factors by which predicted shapes are multiplied.

    The prediction of least error moves too little, the less the audio explains; one that moves as much as the true lips
    has larger errors.

    Args:
        predicted: of `cross_validated`.
        shapes: the true ones, less their mean.
        restored: exponent of the ratio of the true standard deviation to the predicted one: 0 for the least error, 1
            for the true amplitude, 0.5 for the geometric mean of both.
    """
    true, moved = shapes.std(dim=0, correction=0), predicted.std(dim=0, correction=0)
    return torch.where(moved > 0, (true / moved).pow(restored).clamp(1.0, MAX_GAIN), 1.0)
