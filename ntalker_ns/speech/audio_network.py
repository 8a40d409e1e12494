"""The paper's audio path: a network from audio features to the speech code, trained together with the radiance field.

AD-NeRF's audio network (Guo et al. 2021, section 3.2), which RAD-NeRF and the paper (section 3.1) use as it is: a
convolutional network over each window of features, and attention over the codes of neighbouring windows, which smooths
them in time.
"""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntalker_ns.training.threads import one_thread

NEIGHBOURS = 8
"""Consecutive windows whose codes are averaged by attention; the frame's own is the fifth."""

SLOPE = 0.02
"""Of the leaky rectifiers."""

START_STEPS, START_BATCH, START_RATE = 300, 16, 2e-3
"""Steps, frames of a step and learning rate of Adam in `AudioNetwork.start_from`."""


def neighbours(frames: Int[Tensor, "frames"], count: int) -> Int[Tensor, "frames neighbours"]:
    """The frames whose windows give each frame's speech code: four before it, itself, three after it.

    Args:
        frames: indices in a driving sequence.
        count: its frames; the first and the last stand for those beyond them.
    """
    offsets = torch.arange(NEIGHBOURS, device=frames.device) - NEIGHBOURS // 2
    return (frames[:, None] + offsets).clamp(0, count - 1)


class AudioNetwork(nn.Module):
    """From windows of audio features to speech codes."""

    def __init__(self, channels: int, code_dim: int) -> None:
        """
        Args:
            channels: of the features, whose windows have 16 steps.
            code_dim: channels of a speech code.
        """
        super().__init__()
        self.code_dim = code_dim
        widths = [channels, 32, 32, 64, 64]
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv1d(narrow, wide, kernel_size=3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.window_code = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(64, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, code_dim)
        )
        widths = [code_dim, 16, 8, 4, 2, 1]
        layers = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Conv1d(wide, narrow, kernel_size=3, padding=1), nn.LeakyReLU(SLOPE)]
        self.attention = nn.Sequential(*layers, nn.Flatten(), nn.Linear(NEIGHBOURS, NEIGHBOURS), nn.Softmax(dim=1))

    def forward(self, windows: Float[Tensor, "frames neighbours 16 channels"]) -> Float[Tensor, "frames code"]:
        """The speech codes of frames.

        Args:
            windows: of each frame's `neighbours`.
        """
        codes = self.window_code(windows.flatten(0, 1).transpose(1, 2)).unflatten(0, windows.shape[:2])
        weights = self.attention(codes.transpose(1, 2))
        return (weights[:, :, None] * codes).sum(dim=1)

    def start_from(
        self,
        windows: Float[Tensor, "frames 16 channels"],
        lip_shapes: Float[Tensor, "frames lip_dim"],
        trained: Int[Tensor, "trained"],
    ) -> None:
        """Trains the network until a linear map reads the lip shapes from its codes.

        Seconds of video are too few to learn from pictures alone which sounds move the lips; a regression with a prior
        over speakers knows.

        Args:
            windows: of all frames of the driving sequence.
            lip_shapes: as a regression predicts them from those windows.
            trained: frames that may be used.
        """
        # Its own random numbers, so that all processes of a training do the same.
        random = torch.Generator().manual_seed(0)
        readout = torch.randn(self.code_dim, lip_shapes.shape[1], generator=random).to(windows.device)
        readout /= self.code_dim**0.5
        readout.requires_grad_()
        mean, deviation = lip_shapes[trained].mean(dim=0), lip_shapes[trained].std().clamp(min=1e-12)
        targets = (lip_shapes - mean) / deviation
        optimizer = torch.optim.Adam([*self.parameters(), readout], lr=START_RATE)
        for _ in range(START_STEPS):
            drawn = trained[torch.randint(len(trained), (START_BATCH,), generator=random)].to(windows.device)
            with one_thread(), torch.enable_grad():
                codes = self(windows[neighbours(drawn, len(windows))])
                loss = (codes @ readout - targets[drawn]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
