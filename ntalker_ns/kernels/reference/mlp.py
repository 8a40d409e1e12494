"""ReLU networks, layer by layer."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, add_per_frame
from ntalker_ns.kernels.types import MlpWeights


def run_mlp(
    samples: Float[Tensor, "samples channels"],
    network: MlpWeights,
    frames: Float[Tensor, "frames frame_channels"] | None,
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None = None,
    sparse: SparseInputs | None = None,
    shared: RayInputs | None = None,
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, part of whose input is the same for all samples of a frame.

    Differentiable in every floating-point argument but `sparse.last` and `shared`.

    Args:
        samples: grouped by frame; all input channels, or those between the ones in `shared` and in `sparse`.
        network: at least two layers.
        frames: channels of each frame, None where the network takes none.
        counts: samples of each frame.
        gates: factor on the frame's channels for each sample, 1 where None.
        sparse: the last input channels, which most samples share.
        shared: the first input channels, which the samples of a ray share.

    Returns:
        Outputs without activation, in autocast's type where it is on.
    """
    first, *others = zip(network.weights, network.biases, strict=True)
    hidden = linear(all_columns(samples, sparse, shared), *first)
    if (rows := frame_rows(network, frames)) is not None:
        hidden = add_per_frame(hidden, rows, counts, None if gates is None else gates.to(hidden.dtype))
    for weight, bias in others:
        hidden = linear(hidden.relu_(), weight, bias)
    return hidden


def frame_rows(network: MlpWeights, frames: Tensor | None) -> Float[Tensor, "frames hidden"] | None:
    """What frames add to the first layer: one product per frame instead of repeated input columns."""
    return None if frames is None or network.frame_weight is None else linear(frames, network.frame_weight)


def all_columns(
    samples: Float[Tensor, "samples channels"], sparse: SparseInputs | None, shared: RayInputs | None
) -> Float[Tensor, "samples inputs"]:
    """All input channels of each sample."""
    before = [] if shared is None else [shared.columns(samples.dtype)]
    behind = [] if sparse is None else [sparse.columns()]
    return torch.cat([*before, samples, *behind], dim=-1) if before or behind else samples
