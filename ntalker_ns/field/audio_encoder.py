"""From windows of audio features around a moment to one code for the frame (RAD-NeRF's audio network)."""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ATTENTION_FRAMES = 8
"""How many neighbouring frames the attention smooths over."""


def _convolutions(channels: list[int], stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv1d(before, after, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(0.02)]
    return nn.Sequential(*layers)


class WindowEncoder(nn.Module):
    """Encodes one 16-step feature window with four strided convolutions, 16 -> 8 -> 4 -> 2 -> 1."""

    def __init__(self, feature_channels: int, code_dim: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = _convolutions([feature_channels, 32, 32, 64, 64], stride=2)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.02), nn.Dropout(dropout), nn.Linear(64, code_dim))

    def forward(self, windows: Float[Tensor, "batch 16 channels"]) -> Float[Tensor, "batch code"]:
        """One code for each window."""
        return self.head(self.convolutions(windows.transpose(1, 2)).squeeze(-1))


class TemporalAttention(nn.Module):
    """Weighs the codes of neighbouring frames: removes the jitter of single windows without a fixed blur."""

    def __init__(self, code_dim: int = 64) -> None:
        super().__init__()
        self.convolutions = _convolutions([code_dim, 16, 8, 4, 2, 1], stride=1)
        self.mix = nn.Linear(ATTENTION_FRAMES, ATTENTION_FRAMES)

    def forward(self, codes: Float[Tensor, "frames 8 code"]) -> Float[Tensor, "frames code"]:
        """The convex combination of each frame's eight neighbouring codes."""
        logits = self.mix(self.convolutions(codes.transpose(1, 2)).squeeze(1))
        return (torch.softmax(logits, dim=-1).unsqueeze(-1) * codes).sum(dim=1)


class AudioEncoder(nn.Module):
    """The window encoder on each of eight neighbouring frames, then the attention over them."""

    def __init__(self, feature_channels: int, code_dim: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.code_dim = code_dim
        self.window_encoder = WindowEncoder(feature_channels, code_dim, dropout)
        self.attention = TemporalAttention(code_dim)

    def forward(self, windows: Float[Tensor, "frames 8 16 channels"]) -> Float[Tensor, "frames code"]:
        """One code for each frame.

        Args:
            windows: for each frame, the feature windows of the eight frames around it (`neighbour_indices`).
        """
        frames = windows.shape[0]
        codes = self.window_encoder(windows.flatten(0, 1))
        return self.attention(codes.view(frames, ATTENTION_FRAMES, -1))


def neighbour_indices(frame: Int[Tensor, "frames"], num_frames: int) -> Int[Tensor, "frames 8"]:
    """The eight frames around each frame: four before, itself, three after; at the ends the last one again.

    Args:
        frame: frame numbers.
        num_frames: how many frames the clip has.
    """
    half = ATTENTION_FRAMES // 2
    offsets = torch.arange(-half, half, device=frame.device)
    return (frame[:, None] + offsets).clamp(0, num_frames - 1)
