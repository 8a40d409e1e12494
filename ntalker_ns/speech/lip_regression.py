"""Which lips a window of audio features asks for: kernel ridge regression, fitted in closed form.

Seconds of speech are too few to teach a network to hear: what RAD-NeRF's convolutions and attention learn from four
fifths of a clip is of little use in the fifth. This has nothing to be taught step by step, and hears the same in a clip
each time.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.media.frame_indices import evenly_spaced

BINS = 8
"""Parts of a window, equally long, within which features are averaged."""

ATTENTION = (0.2, 1.0, 1.0, 0.2)
"""How much features matter, from the window's beginning to its end."""

USUAL = 3.0
"""Features further from their mean than so many standard deviations count as if they were there: new audio comes from
another room and another microphone."""

LOCAL, WIDTH = 0.4, 0.25
"""Share of the kernel that is local, a Gaussian, and its variance over the mean squared length of inputs. The rest is
linear."""

NOISE = 0.1
"""Variance of what audio does not say of a lip shape, over that of what it says."""

MOST = 2048
"""Most frames that are remembered, evenly spaced: neighbours hear almost the same."""

PARTS, APART = 5, 8
"""In how many parts the clip is heard by what its other parts taught, frames so near left out."""

LOUDEST = 2.0
"""How many times as much as they are predicted to lips move at most."""


class LipReader(nn.Module):
    """Hears shapes of lips and jaw. Until it is fitted it hears nothing and says zeros."""

    mean: Tensor
    scale: Tensor
    limits: Tensor
    heard: Tensor
    coefficients: Tensor
    rest: Tensor
    bounds: Tensor

    def __init__(self, channels: int, lip_dim: int, frames: int) -> None:
        """
        Args:
            channels: of the audio features.
            lip_dim: numbers of a lip shape.
            frames: that it will be fitted to, at most.
        """
        super().__init__()
        inputs, remembered = BINS * channels, min(frames, MOST)
        for name in ("mean", "scale", "limits"):
            self.register_buffer(name, torch.zeros(inputs))
        self.register_buffer("heard", torch.zeros(remembered, inputs))
        self.register_buffer("coefficients", torch.zeros(remembered, lip_dim))
        self.register_buffer("rest", torch.zeros(lip_dim))
        self.register_buffer("bounds", torch.zeros(2, lip_dim))

    @torch.no_grad()
    def forward(self, windows: Float[Tensor, "frames 16 channels"]) -> Float[Tensor, "frames lip_dim"]:
        """The lip shape that each window asks for, within what the clip showed.

        Args:
            windows: of audio features, one for each frame.
        """
        with torch.autocast(windows.device.type, enabled=False):
            inputs = ((binned(windows) - self.mean) * self.scale).clamp(-self.limits, self.limits)
            return (self.rest + similarity(inputs, self.heard) @ self.coefficients).clamp(*self.bounds)

    @torch.no_grad()
    def fit(self, windows: Float[Tensor, "frames 16 channels"], shapes: Float[Tensor, "frames lip_dim"]) -> None:
        """Learns from a clip.

        Args:
            windows: of audio features, one for each frame, in the clip's order; and maybe of pauses.
            shapes: of the lips at those.
        """
        kept = evenly_spaced(len(self.heard), len(windows))
        inputs, shapes = binned(windows.double().cpu()[kept]), shapes.double().cpu()[kept]
        mean, spread = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
        # What hardly varies in the clip says nothing, and would be made large.
        scale = attention(windows.shape[-1]) / spread.clamp(min=1e-3 * float(spread.max()) + 1e-12)
        limits = USUAL * scale * spread
        inputs = ((inputs - mean) * scale).clamp(-limits, limits)
        length = inputs.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
        heard, rest = inputs / length, shapes.mean(dim=0)
        kernel = similarity(heard, heard)
        coefficients = loudness(kernel, shapes - rest) * solve(kernel, shapes - rest)
        found = (mean, scale / length, limits / length, rest, torch.stack([shapes.amin(dim=0), shapes.amax(dim=0)]))
        for name, value in zip(("mean", "scale", "limits", "rest", "bounds"), found, strict=True):
            getattr(self, name).copy_(value)
        for rows, values in ((self.heard, heard), (self.coefficients, coefficients)):
            rows.zero_()[: len(kept)] = values.to(rows)


def binned(windows: Float[Tensor, "frames 16 channels"]) -> Float[Tensor, "frames inputs"]:
    """Features averaged within the parts of each window, one part after the other."""
    return windows.unflatten(1, (BINS, -1)).mean(dim=2).flatten(1)


def attention(channels: int) -> Float[Tensor, "inputs"]:
    """How much each of them matters."""
    middles = np.linspace(0.0, 1.0, BINS)
    weights = np.interp(middles, np.linspace(0.0, 1.0, len(ATTENTION)), ATTENTION)
    return torch.from_numpy(weights).repeat_interleave(channels)


def similarity(one: Float[Tensor, "n inputs"], other: Float[Tensor, "m inputs"]) -> Float[Tensor, "n m"]:
    """The kernel (1 - LOCAL) x.y + LOCAL exp(-|x - y|^2 / (2 WIDTH)), for inputs whose mean squared length is 1."""
    products = one @ other.T
    apart = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1) - 2.0 * products
    return (1.0 - LOCAL) * products + LOCAL * torch.exp(apart.clamp(min=0.0) / (-2.0 * WIDTH))


def solve(kernel: Float[Tensor, "n n"], shapes: Float[Tensor, "n lip_dim"]) -> Float[Tensor, "n lip_dim"]:
    """The coefficients of ridge regression, (K + NOISE I)^-1 y."""
    return torch.linalg.solve(kernel + NOISE * torch.eye(len(kernel), dtype=kernel.dtype), shapes)


def loudness(kernel: Float[Tensor, "n n"], shapes: Float[Tensor, "n lip_dim"]) -> Float[Tensor, "lip_dim"]:
    """By how much predicted shapes are to be multiplied.

    The prediction that is least wrong moves too little, the less the audio says; one that moves as much as true lips is
    more often far off. This is half way between, as factors go: the root of how much more true lips move, by parts of
    the clip that are predicted from the others.

    Args:
        kernel: between frames in the clip's order.
        shapes: of those, less their mean.
    """
    frames = np.arange(len(kernel))
    predicted = torch.zeros_like(shapes)
    for part in np.array_split(frames, PARTS):
        if len(part):
            others = frames[(frames < part[0] - APART) | (frames > part[-1] + APART)]
            known = kernel[np.ix_(others, others)]
            predicted[part] = kernel[np.ix_(part, others)] @ solve(known, shapes[others])
    moves, predicted_moves = shapes.std(dim=0, correction=0), predicted.std(dim=0, correction=0)
    louder = (moves / predicted_moves).sqrt().clamp(1.0, LOUDEST)
    return torch.where(predicted_moves > 0, louder, 1.0)
