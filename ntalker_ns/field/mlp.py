"""The small networks of the field."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.field.segments import add_per_frame


class FrameMLP(nn.Module):
    """A ReLU network on samples, part of whose input is the same for all samples of a frame.

    That part enters as a bias of the first layer, one product a frame: the numbers are those of a network that is
    given it as repeated columns, without the columns.
    """

    def __init__(self, sample_dim: int, frame_dim: int, width: int, layers: int, out_dim: int) -> None:
        """
        Args:
            sample_dim: channels that differ between samples.
            frame_dim: channels shared by the samples of a frame; may be 0.
            width: hidden channels.
            layers: linear layers in all, at least 2.
            out_dim: channels that come out, with no activation.
        """
        super().__init__()
        self.first = nn.Linear(sample_dim, width)
        self.frame = nn.Linear(frame_dim, width, bias=False) if frame_dim else None
        hidden: list[nn.Module] = []
        for _ in range(layers - 2):
            hidden += [nn.Linear(width, width), nn.ReLU(inplace=True)]
        self.rest = nn.Sequential(nn.ReLU(inplace=True), *hidden, nn.Linear(width, out_dim))

    def forward(
        self,
        samples: Float[Tensor, "samples sample_dim"],
        frames: Float[Tensor, "frames frame_dim"] | None,
        counts: list[int],
        gates: Float[Tensor, "samples 1"] | None = None,
    ) -> Float[Tensor, "samples out_dim"]:
        """
        Args:
            samples: grouped by frame.
            frames: one row a frame, None where `frame_dim` is 0.
            counts: samples of each frame.
            gates: factor on the frame's part for each sample, 1 where None.
        """
        hidden = self.first(samples)
        if self.frame is not None:
            assert frames is not None
            hidden = add_per_frame(hidden, self.frame(frames), counts, gates)
        return self.rest(hidden)


class TruncatedExp(torch.autograd.Function):
    """exp whose gradient stops growing where the input would make it overflow (as in Instant-NGP)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        """exp of x, with x at most 15."""
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15.0))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:  # type: ignore[override]
        """The gradient of exp, with x at most 15."""
        (x,) = ctx.saved_tensors
        return grads[0] * torch.exp(x.clamp(max=15.0))


def truncated_exp(x: Tensor) -> Tensor:
    """exp of x clamped to 15 from above, with a gradient that does not vanish there."""
    return TruncatedExp.apply(x)  # type: ignore[no-any-return]
