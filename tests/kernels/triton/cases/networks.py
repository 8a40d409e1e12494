"""The fused Triton networks against torch's linear layers in double precision."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ntalker_ns.field.mlp import FrameMLP
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, Subset
from ntalker_ns.kernels.triton import mlp as triton_mlp
from ntalker_ns.kernels.triton.mlp import run_layers
from ntalker_ns.kernels.triton.sizes import fits

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _parameters(widths: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    weights = [torch.randn(b, a, device=DEVICE) / a**0.5 for a, b in pairwise(widths)]
    return weights, [torch.randn(width, device=DEVICE) for width in widths[1:]]


def _layer_by_layer(samples, rows, counts, gates, weights, biases) -> Tensor:
    """The same network as torch's linear layers, the frames' rows repeated."""
    added = torch.repeat_interleave(rows, torch.tensor(counts, device=DEVICE), dim=0)
    hidden = samples @ weights[0].T + biases[0] + (added if gates is None else gates * added)
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        hidden = hidden.relu() @ weight.T + bias
    return hidden


# Tiles have 64 and 128 samples: sizes on both sides of those; frames that end within a tile, and an empty one.
@pytest.mark.parametrize(
    ("counts", "widths", "gated"),
    [
        ([100, 0, 160, 41], [49, 64, 64, 65], True),
        ([65], [24, 64, 64, 2], False),
        ([30, 34], [80, 64, 3], False),
        ([1], [7, 16, 16, 17], True),
    ],
)
def test_equals_linear_layers(counts, widths, gated):
    torch.manual_seed(0)
    weights, biases = _parameters(widths)
    samples = torch.randn(sum(counts), widths[0], device=DEVICE)
    rows = torch.randn(len(counts), widths[1], device=DEVICE)
    gates = torch.rand(sum(counts), 1, device=DEVICE) if gated else None
    tensors = [samples, rows, *([gates] if gates is not None else []), *weights, *biases]
    for tensor in tensors:
        tensor.requires_grad_()
    found = run_layers(samples, rows, counts, gates, weights, biases)
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    count = len(weights)
    their_gates = doubles[2] if gated else None
    expected = _layer_by_layer(
        doubles[0], doubles[1], counts, their_gates, doubles[-2 * count : -count], doubles[-count:]
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(found)
    ours = torch.autograd.grad(found, tensors, upstream)
    theirs = torch.autograd.grad(expected, doubles, upstream.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("widths", [[81, 64, 3], [20, 32, 32, 5]])
def test_inputs_that_rays_share_are_those_of_each_sample(widths):
    torch.manual_seed(0)
    counts, channels = [100, 57], 16
    weights, biases = _parameters(widths)
    samples = torch.randn(157, widths[0] - channels, device=DEVICE, requires_grad=True)
    rows = torch.randn(2, widths[1], device=DEVICE)
    shared = RayInputs(torch.randn(9, channels, device=DEVICE), torch.randint(9, (157,), device=DEVICE))
    tensors = [samples, *(each.requires_grad_() for each in (rows, *weights, *biases))]
    found = run_layers(samples, rows, counts, None, weights, biases, shared=shared)
    columns = torch.cat([shared.values[shared.rays], samples], dim=1)
    expected = run_layers(columns, rows, counts, None, weights, biases)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    upstream = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(each, tensors, upstream) for each in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_half_precision_under_autocast():
    torch.manual_seed(0)
    weights, biases = _parameters([20, 32, 32, 5])
    for tensor in (*weights, *biases):
        tensor.requires_grad_()
    samples, rows = torch.randn(70, 20, device=DEVICE), torch.randn(1, 32, device=DEVICE)
    with torch.autocast(DEVICE.type, torch.float16):
        found = run_layers(samples, rows, [70], None, weights, biases)
        with torch.autocast(DEVICE.type, enabled=False):
            expected = _layer_by_layer(samples, rows, [70], None, weights, biases)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)
    ours = torch.autograd.grad(found.float().square().mean(), weights)
    theirs = torch.autograd.grad(expected.square().mean(), weights)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * float(other.abs().max()))


def _sparse_inputs(samples: int, channels: int, special: list[int]) -> SparseInputs:
    """Further channels of some samples, and an extra one that is 0 but for a few."""
    last = torch.zeros(samples, 1, device=DEVICE)
    last[samples // 2 : samples // 2 + 5] = 0.75
    values, common = torch.randn(len(special), channels, device=DEVICE), torch.randn(1, channels, device=DEVICE)
    index = torch.tensor(special, dtype=torch.int64, device=DEVICE)
    mask = torch.zeros(samples, dtype=torch.bool, device=DEVICE).index_fill(0, index, True)
    return SparseInputs(values, Subset(mask, index, [len(special)]), common, last)


@pytest.mark.parametrize("special", [[3, 64, 65, 170], []])
def test_sparse_inputs_are_as_if_written_out(special):
    torch.manual_seed(1)
    weights, biases = _parameters([33, 32, 32, 20])
    sparse = _sparse_inputs(201, 16, special)
    samples, rows = torch.randn(201, 16, device=DEVICE), torch.randn(2, 32, device=DEVICE)
    gates = torch.rand(201, 1, device=DEVICE)
    tensors = [samples, rows, gates, sparse.values, sparse.common, *weights, *biases]
    for tensor in tensors:
        tensor.requires_grad_()
    found = run_layers(samples, rows, [100, 101], gates, weights, biases, sparse)
    written = torch.cat([samples, sparse.columns()], dim=1)
    expected = _layer_by_layer(written, rows, [100, 101], gates, weights, biases)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(each, tensors, upstream) for each in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("gated", [True, False])
def test_the_module_runs_it_in_half_precision(gated: bool, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(2)
    run_mlp, calls = triton_mlp.run_mlp, []
    monkeypatch.setattr(triton_mlp, "run_mlp", lambda *given: calls.append(1) or run_mlp(*given))
    fused, plain = (
        FrameMLP(Ops(DEVICE, backend), 33, 6, width=32, layers=3, out_dim=20).to(DEVICE)
        for backend in ("triton", "reference")
    )
    sparse = _sparse_inputs(201, 16, [3, 64, 65, 170])
    samples, frames = torch.randn(201, 16, device=DEVICE), torch.randn(2, 6, device=DEVICE)
    gates = torch.rand(201, 1, device=DEVICE) if gated else None
    inputs = [samples, frames, sparse.values, sparse.common, *([gates] if gates is not None else [])]
    # Eighths are exact in half precision, and so are sums of their products: no ReLU opens by rounding or closes.
    for tensor in (*inputs, *fused.parameters()):
        tensor.data = (8.0 * tensor.data).round() / 8.0
        tensor.requires_grad_()
    plain.load_state_dict(fused.state_dict())

    def numbers(network: FrameMLP, half: bool) -> tuple[Tensor, ...]:
        with torch.autocast(DEVICE.type, torch.float16, enabled=half):
            out = network(samples, frames, [100, 101], gates, sparse)
        assert out.dtype == (torch.float16 if half else torch.float32)
        gradients = torch.autograd.grad(out.float().square().sum(), [*inputs, *network.parameters()])
        return out.detach(), *gradients

    expected = numbers(plain, half=False)
    assert not calls
    for network in (fused, plain):
        for one, other in zip(numbers(network, half=True), expected, strict=True):
            torch.testing.assert_close(one.float(), other, rtol=0, atol=0.01 * float(other.abs().max()))
    assert calls == [1]
    numbers(fused, half=False)
    assert calls == [1]


def test_no_samples():
    weights, biases = _parameters([20, 32, 5])
    for tensor in (*weights, *biases):
        tensor.requires_grad_()
    found = run_layers(torch.zeros(0, 20, device=DEVICE), torch.zeros(1, 32, device=DEVICE), [0], None, weights, biases)
    assert found.shape == (0, 5)
    found.sum().backward()
    assert weights[0].grad is not None and float(weights[0].grad.abs().max()) == 0


def test_networks_that_do_not_fit_are_refused():
    for widths in ([20, 48, 5], [200, 64, 5], [20, 64, 64, 64, 5]):
        weights, biases = _parameters(widths)
        assert not fits(weights, DEVICE)
        with pytest.raises(ValueError, match="No fused kernel"):
            rows = torch.zeros(1, widths[1], device=DEVICE)
            run_layers(torch.zeros(3, widths[0], device=DEVICE), rows, [3], None, weights, biases)


def test_what_is_not_a_number_reaches_the_output():
    weights, biases = _parameters([3, 16, 18])
    samples = torch.randn(70, 3, device=DEVICE)
    samples[66, 1] = float("nan")
    out = run_layers(samples, torch.zeros(1, 16, device=DEVICE), [70], None, weights, biases)
    assert out.isnan().any(dim=1).nonzero().flatten().tolist() == [66]
