"""The small networks of the field."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs
from ntalker_ns.kernels.types import MlpWeights


class FrameMLP(nn.Module):
    """A ReLU network on samples, part of whose input is the same for all samples of a frame.

    That part enters as a bias of the first layer, one product per frame: the same numbers as with repeated columns.
    """

    def __init__(self, ops: Ops, sample_dim: int, frame_dim: int, width: int, layers: int, out_dim: int) -> None:
        """
        Args:
            ops: computes it.
            sample_dim: channels that differ between samples.
            frame_dim: channels shared by the samples of a frame; may be 0.
            width: hidden channels.
            layers: linear layers in all, at least 2.
            out_dim: output channels, without activation.
        """
        super().__init__()
        self.ops, self.out_dim = ops, out_dim
        self.frame = nn.Linear(frame_dim, width, bias=False) if frame_dim else None
        widths = [sample_dim] + [width] * (layers - 1) + [out_dim]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(
        self,
        samples: Float[Tensor, "samples sample_dim"],
        frames: Float[Tensor, "frames frame_dim"] | None,
        counts: list[int],
        gates: Float[Tensor, "samples 1"] | None = None,
        sparse: SparseInputs | None = None,
        shared: RayInputs | None = None,
    ) -> Float[Tensor, "samples out_dim"]:
        """See `ntalker_ns.kernels.reference.mlp.run_mlp`."""
        return self.ops.run_mlp(samples, self.parts(), frames, counts, gates, sparse, shared)

    def parts(self) -> MlpWeights:
        """The network as plain data."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        frame_weight = None if self.frame is None else self.frame.weight
        return MlpWeights([layer.weight for layer in linear], [layer.bias for layer in linear], frame_weight)


class TruncatedExp(torch.autograd.Function):
    """exp of x clamped to 15 from above, with the gradient of exp of the clamped x (as in Instant-NGP)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """exp of the clamped x."""
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15.0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Does not vanish beyond 15."""
        (x,) = ctx.saved_tensors
        return grads[0] * torch.exp(x.clamp(max=15.0))


def truncated_exp(x: Tensor) -> Tensor:
    """`TruncatedExp`, at least in float32."""
    return TruncatedExp.apply(at_least_float32(x))  # type: ignore[no-any-return]


def at_least_float32(x: Tensor) -> Tensor:
    """Raises half precision to float32: float16 ends at exp(11)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
