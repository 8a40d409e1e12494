"""The small networks of the field as tiny-cuda-nn's fully fused ones, where that is installed.

Those have no biases and know no frames. A sample is therefore given its frame's channels, times its gate, as inputs of
its own, and behind them one that is always 1. A further hidden unit hands that 1 on, and biases are its weights. Hidden
layers there are 16, 32, 64 or 128 wide: the next width above ours has room for the unit, and all else in it is zero. So
64 channels are multiplied as 128, and frames are written out for every sample, where our Triton kernels read them once:
this backend is for comparison, and "auto" does not choose it.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.ragged import PerRay, SparseInputs, expand_per_frame

WIDTHS = (16, 32, 64, 128)
"""Hidden channels that tiny-cuda-nn's network can have."""
MOST_INPUTS = 208
"""Most inputs whose matrix still fits the 64 KiB of shared memory that every GPU with such networks has."""


def fits(weights: Sequence[Tensor], frame_weight: Tensor | None) -> bool:
    """Whether tiny-cuda-nn has a network with room for ours.

    Args:
        weights: (out, in) of each layer.
        frame_weight: (hidden, frame channels) of the first layer, None where it is told of no frames.

    Returns:
        True for two layers and more of less than 128 hidden channels, with at most 207 inputs in all.
    """
    hidden, inputs = weights[0].shape
    channels = 0 if frame_weight is None else frame_weight.shape[1]
    return len(weights) > 1 and hidden < WIDTHS[-1] and inputs + channels < MOST_INPUTS


def run_mlp(
    samples: Float[Tensor, "samples inputs"],
    frames: Float[Tensor, "frames frame_dim"] | None,
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None,
    frame_weight: Float[Tensor, "hidden frame_dim"] | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    sparse: SparseInputs | None = None,
    shared: PerRay | None = None,
) -> Float[Tensor, "samples outputs"]:
    """A ReLU network on samples, whose first layer also gets each sample's gate times its frame's channels.

    The numbers of torch's linear layers up to float16, in which all is multiplied and summed whatever autocast's type
    is, the parameters' gradients too. Only `sparse.last` and `shared` have no gradient.

    Args:
        samples: at least one, on a CUDA device, grouped by frame.
        frames: one row a frame, None where there are none.
        counts: samples of each frame.
        gates: factor on the frame's channels for each sample, 1 where None.
        frame_weight: of the first layer, for the frames' channels; not used without frames.
        weights: (out, in) of each layer; see `fits`.
        biases: (out,) of each layer.
        sparse: further inputs behind those of `samples`.
        shared: further inputs before those of `samples`.

    Returns:
        Outputs in autocast's type, without autocast in the type of the samples.

    Raises:
        ValueError: the network is not one that `fits`.
        NTalkerError: tiny-cuda-nn has no fully fused networks on this GPU.
    """
    if not fits(weights, frame_weight):
        raise ValueError(f"No fused network for layers of {[tuple(weight.shape) for weight in weights]}.")
    first, *rest = weights
    columns = [samples] if shared is None else [shared.columns(samples.dtype), samples]
    columns += [] if sparse is None else [sparse.without_last(), sparse.last]
    if frames is not None and frame_weight is not None:
        repeated = expand_per_frame(frames, counts)
        columns.append(repeated if gates is None else gates * repeated)
        first = torch.cat([first, frame_weight], dim=1)
    inputs = torch.cat([*columns, samples.new_ones(len(samples), 1)], dim=1).float()
    width = next(width for width in WIDTHS if width > len(first))
    parameters = packed([first, *rest], biases, width)
    module = _network(inputs.shape[1], len(biases[-1]), width, len(rest), samples.device)
    if parameters.shape != module.params.shape:  # before compute capability 7.5 another network stands in
        raise NTalkerError("tiny-cuda-nn has no fully fused networks on this GPU; use another backend.")
    outputs = torch.func.functional_call(module, {"params": parameters}, (inputs,))
    device = samples.device.type
    return outputs.to(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else samples.dtype)


def packed(weights: Sequence[Tensor], biases: Sequence[Tensor], width: int) -> Float[Tensor, "parameters"]:
    """Weights and biases as tiny-cuda-nn's flat parameters: padded matrices one after another, each row by row.

    Args:
        weights: (out, in) of each layer, the frames' channels among the first one's.
        biases: (out,) of each layer, the weights of a last input that is 1.
        width: hidden channels over there, at least one more than ours.
    """
    parts, last = [], len(weights) - 1
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs, inputs = weight.shape
        rows = width if place < last else _aligned(outputs)
        matrix = weight.new_zeros(rows, width if place else _aligned(inputs + 1))
        if place < last:  # the unit that is 1; assigning a number would make the host wait for the device
            matrix[outputs, inputs].fill_(1.0)
        matrix[:outputs, :inputs] = weight
        matrix[:outputs, inputs] = bias
        parts.append(matrix.flatten())
    return torch.cat(parts)


def _aligned(channels: int) -> int:
    """Inputs and outputs over there, where both are multiples of 16."""
    return -(-channels // 16) * 16


@lru_cache
def _network(inputs: int, outputs: int, width: int, hidden_layers: int, device: torch.device) -> nn.Module:
    """tiny-cuda-nn's module, whose own parameters are not used."""
    import tinycudann  # pyright: ignore[reportMissingImports]

    config = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None"}
    config |= {"n_neurons": width, "n_hidden_layers": hidden_layers}
    with torch.cuda.device_of(torch.empty(0, device=device)):
        return tinycudann.Network(inputs, outputs, config).to(device)
