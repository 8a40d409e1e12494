"""The small networks of the field."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.field.segments import SparseInputs, add_per_frame


class FrameMLP(nn.Module):
    """A ReLU network on samples, part of whose input is the same for all samples of a frame.

    That part enters as a bias of the first layer, one product a frame: the numbers are those of a network that is
    given it as repeated columns, without the columns. On the CPU a fused kernel takes all layers in one go.
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
        self.frame = nn.Linear(frame_dim, width, bias=False) if frame_dim else None
        widths = [sample_dim] + [width] * (layers - 1) + [out_dim]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.width, self.out_dim = width, out_dim

    def forward(
        self,
        samples: Float[Tensor, "samples sample_dim"],
        frames: Float[Tensor, "frames frame_dim"] | None,
        counts: list[int],
        gates: Float[Tensor, "samples 1"] | None = None,
        sparse: SparseInputs | None = None,
    ) -> Float[Tensor, "samples out_dim"]:
        """
        Args:
            samples: grouped by frame; all input channels, or those before the ones in `sparse`.
            frames: one row a frame, None where `frame_dim` is 0.
            counts: samples of each frame.
            gates: factor on the frame's part for each sample, 1 where None.
            sparse: the other input channels, which most samples share.
        """
        rows = None if self.frame is None or frames is None else self.frame(frames)
        if samples.device.type == "cpu" and len(samples):
            return self._fused(samples, rows, counts, gates, sparse)
        if sparse is not None:
            samples = torch.cat([samples, sparse.columns()], dim=-1)
        hidden = self.layers[0](samples)
        if rows is not None:
            hidden = add_per_frame(hidden, rows, counts, gates)
        for layer in self.layers[1:]:
            hidden = layer(hidden.relu_())
        return hidden

    def _fused(
        self,
        samples: Tensor,
        rows: Tensor | None,
        counts: list[int],
        gates: Tensor | None,
        sparse: SparseInputs | None,
    ) -> Tensor:
        from ntalker_ns.field.numba_mlp import run_mlp

        if rows is None:
            rows, counts = samples.new_zeros(1, self.width), [len(samples)]
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        weights, biases = [layer.weight for layer in linear], [layer.bias for layer in linear]
        return run_mlp(samples, rows, counts, gates, weights, biases, sparse)


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
