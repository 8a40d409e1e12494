from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ntalker_ns.kernels.numba.mlp import run_layers


def parameters(widths: list[int], kind: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    weights = [torch.randn(b, a, dtype=kind) / a**0.5 for a, b in pairwise(widths)]
    biases = [torch.randn(width, dtype=kind) for width in widths[1:]]
    return weights, biases


def layer_by_layer(
    samples: Tensor, rows: Tensor, counts: list[int], gates: Tensor | None, weights: list[Tensor], biases: list[Tensor]
) -> Tensor:
    """The same network as torch's linear layers, the frames' rows repeated."""
    added = torch.repeat_interleave(rows, torch.tensor(counts), dim=0)
    hidden = samples @ weights[0].T + biases[0] + (added if gates is None else gates * added)
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        hidden = hidden.relu() @ weight.T + bias
    return hidden


# Tiles have 64 samples and products go by four rows and columns: sizes on both sides of those. Hidden and padded output
# widths are the same throughout, since kernels are compiled for each pair.
SHAPES = [(301, [49, 16, 16, 20]), (65, [7, 16, 16, 16, 17]), (64, [16, 16, 20]), (1, [24, 16, 18])]


@pytest.mark.parametrize(("samples", "widths"), SHAPES)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("gated", [True, False])
def test_equals_linear_layers(samples: int, widths: list[int], kind: torch.dtype, gated: bool):
    torch.manual_seed(0)
    weights, biases = parameters(widths, kind)
    counts = [samples // 3, 0, samples - samples // 3]
    rows, x = torch.randn(3, widths[1], dtype=kind), torch.randn(samples, widths[0], dtype=kind)
    gates = torch.rand(samples, 1, dtype=kind) if gated else None
    inputs = [tensor.requires_grad_() for tensor in (x, rows, *([gates] if gates is not None else []))]
    learned = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    found = run_layers(x, rows, counts, gates, weights, biases)
    expected = layer_by_layer(x, rows, counts, gates, weights, biases)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[kind]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    gradient = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, inputs + learned, gradient),
        torch.autograd.grad(expected, inputs + learned, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=10 * tolerance, atol=100 * tolerance)


def test_gradcheck():
    torch.manual_seed(1)
    weights, biases = parameters([3, 16, 16, 17], torch.float64)
    tensors = [torch.randn(9, 3), torch.randn(2, 16), torch.rand(9, 1)]
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    learned = [tensor.requires_grad_() for tensor in (*weights, *biases)]

    def run(samples: Tensor, rows: Tensor, gates: Tensor, *rest: Tensor) -> Tensor:
        return run_layers(samples, rows, [4, 5], gates, rest[:3], rest[3:])

    assert torch.autograd.gradcheck(run, (*tensors, *learned))


def test_what_is_not_a_number_reaches_the_output():
    torch.manual_seed(2)
    weights, biases = parameters([3, 16, 18], torch.float32)
    samples = torch.randn(70, 3)
    samples[66, 1] = float("nan")
    out = run_layers(samples, torch.zeros(1, 16), [70], None, weights, biases)
    assert out.isnan().any(dim=1).nonzero().flatten().tolist() == [66]
