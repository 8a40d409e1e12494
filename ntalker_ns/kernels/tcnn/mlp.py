"""The small networks of the field as tiny-cuda-nn's fully fused ones.

Those have neither biases nor channels per frame. So each sample gets its frame's channels, times its gate, as inputs of
its own, and one more input that is always 1; a further hidden unit hands that 1 on, and biases are its weights. Hidden
layers are 16, 32, 64 or 128 wide: the next width above ours has room for that unit and is zero otherwise. 64 channels
are therefore multiplied as 128, and frames are repeated for every sample, where our Triton kernels read them once: this
backend is for comparison, and "auto" does not choose it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, expand_per_frame
from ntalker_ns.kernels.reference.mlp import all_columns
from ntalker_ns.kernels.types import MlpWeights

WIDTHS = (16, 32, 64, 128)
"""Hidden channels that tiny-cuda-nn's network can have."""
MAX_INPUTS = 208
"""Most inputs whose matrix still fits the 64 KiB of shared memory that every GPU with such networks has."""


def accepts_run_mlp(samples: Tensor, network: MlpWeights, *_: Any, **__: Any) -> bool:
    """At least one sample, under autocast, and a network that `fits`."""
    return len(samples) > 0 and torch.is_autocast_enabled(samples.device.type) and fits(network)


def fits(network: MlpWeights) -> bool:
    """Whether ours can be embedded in a network of tiny-cuda-nn: at least two layers of less than 128 hidden channels,
    at most 207 inputs in all."""
    hidden, inputs = network.weights[0].shape
    channels = 0 if network.frame_weight is None else network.frame_weight.shape[1]
    return len(network.weights) > 1 and hidden < WIDTHS[-1] and inputs + channels < MAX_INPUTS


def run_mlp(
    samples: Float[Tensor, "samples channels"],
    network: MlpWeights,
    frames: Float[Tensor, "frames frame_channels"] | None,
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None = None,
    sparse: SparseInputs | None = None,
    shared: RayInputs | None = None,
) -> Float[Tensor, "samples outputs"]:
    """See `kernels.reference.mlp.run_mlp`; at least one sample, on CUDA.

    Everything is multiplied and summed in float16 whatever autocast's type is, the parameters' gradients too.

    Raises:
        ValueError: the network is not one that `fits`.
        NTalkerError: tiny-cuda-nn has no fully fused networks on this GPU.
    """
    weights, biases, frame_weight = network
    if not fits(network):
        raise ValueError(f"No fused network for layers of {[tuple(weight.shape) for weight in weights]}.")
    first, *rest = weights
    columns = [all_columns(samples, sparse, shared)]
    if frames is not None and frame_weight is not None:
        repeated = expand_per_frame(frames, counts)
        columns.append(repeated if gates is None else gates * repeated)
        first = torch.cat([first, frame_weight], dim=1)
    inputs = torch.cat([*columns, samples.new_ones(len(samples), 1)], dim=1).float()
    width = next(width for width in WIDTHS if width > len(first))
    parameters = packed([first, *rest], biases, width)
    module = fused_network(inputs.shape[1], len(biases[-1]), width, len(rest), samples.device)
    if parameters.shape != module.params.shape:  # below compute capability 7.5 it has another kind of network
        raise NTalkerError("tiny-cuda-nn has no fully fused networks on this GPU; use another backend.")
    outputs = torch.func.functional_call(module, {"params": parameters}, (inputs,))
    device = samples.device.type
    return outputs.to(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else samples.dtype)


def packed(weights: Sequence[Tensor], biases: Sequence[Tensor], width: int) -> Float[Tensor, "parameters"]:
    """Weights and biases as tiny-cuda-nn's flat parameters: padded matrices one after another, each row by row.

    Args:
        weights: (out, in) of each layer, with the frames' channels in the first one.
        biases: (out,) of each layer, the weights of a last input that is 1.
        width: hidden channels of tiny-cuda-nn's network, at least one more than ours.
    """
    parts, last = [], len(weights) - 1
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs, inputs = weight.shape
        rows = width if place < last else _aligned(outputs)
        matrix = weight.new_zeros(rows, width if place else _aligned(inputs + 1))
        if place < last:  # the unit that is 1; assigning a number would need a synchronisation
            matrix[outputs, inputs].fill_(1.0)
        matrix[:outputs, :inputs] = weight
        matrix[:outputs, inputs] = bias
        parts.append(matrix.flatten())
    return torch.cat(parts)


def _aligned(channels: int) -> int:
    """Inputs and outputs are padded to multiples of 16."""
    return -(-channels // 16) * 16


@lru_cache
def fused_network(inputs: int, outputs: int, width: int, hidden_layers: int, device: torch.device) -> nn.Module:
    """tiny-cuda-nn's module; its own parameters are not used."""
    import tinycudann  # pyright: ignore[reportMissingImports]

    config = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None"}
    config |= {"n_neurons": width, "n_hidden_layers": hidden_layers}
    with torch.cuda.device_of(torch.empty(0, device=device)):
        return tinycudann.Network(inputs, outputs, config).to(device)
