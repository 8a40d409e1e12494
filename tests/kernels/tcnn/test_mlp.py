"""The networks in tiny-cuda-nn, with its library played by a few lines of torch that read parameters as it does."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.mlp import FrameMLP
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, Subset
from ntalker_ns.kernels.tcnn import mlp as tcnn_mlp
from ntalker_ns.kernels.triton import mlp as triton_mlp

REFERENCE = Ops("cpu", "reference")


class _Network(nn.Module):
    """tiny-cuda-nn's fully fused network: no biases, and inputs padded with ones."""

    kind = torch.float32
    """What it rounds inputs, parameters and channels to; float16 in the library itself."""

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict[str, Any]) -> None:
        super().__init__()
        config = dict(network_config)
        assert config.pop("otype") == "FullyFusedMLP"
        assert (config.pop("activation"), config.pop("output_activation")) == ("ReLU", "None")
        width, hidden_layers = config.pop("n_neurons"), config.pop("n_hidden_layers")
        assert width in (16, 32, 64, 128) and hidden_layers >= 1 and not config
        padded_in, padded_out = (-(-channels // 16) * 16 for channels in (n_input_dims, n_output_dims))
        self.shapes = [(width, padded_in), *[(width, width)] * (hidden_layers - 1), (padded_out, width)]
        self.inputs, self.outputs = n_input_dims, n_output_dims
        self.params = nn.Parameter(torch.full((sum(rows * columns for rows, columns in self.shapes),), float("nan")))

    def forward(self, inputs: Tensor) -> Tensor:
        assert len(inputs) > 0, "an empty batch"
        assert inputs.dtype == torch.float32 and inputs.shape[1] == self.inputs
        parts = self.params.split([rows * columns for rows, columns in self.shapes])
        with torch.autocast("cpu", enabled=False):
            hidden = nn.functional.pad(inputs, (0, self.shapes[0][1] - self.inputs), value=1.0).to(self.kind)
            for place, (part, shape) in enumerate(zip(parts, self.shapes, strict=True)):
                hidden = (hidden.relu() if place else hidden) @ part.to(self.kind).view(shape).T
        return hidden[:, : self.outputs]


@pytest.fixture(autouse=True)
def played_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Network=_Network))
    tcnn_mlp.fused_network.cache_clear()
    yield
    tcnn_mlp.fused_network.cache_clear()


def _sparse(samples: int, channels: int) -> SparseInputs:
    """Further channels of every fourth sample, and an extra one that is 0 but for a few."""
    index = torch.arange(0, samples, 4)
    mask = torch.zeros(samples, dtype=torch.bool).index_fill(0, index, True)
    last = torch.where(torch.rand(samples, 1) > 0.8, 0.75, 0.0)
    chosen = Subset(mask, index, [len(index)])
    return SparseInputs(torch.randn(len(index), channels), chosen, torch.randn(1, channels), last)


def _shared(samples: int, channels: int) -> RayInputs:
    return RayInputs(torch.randn(5, channels), torch.randint(5, (samples,)))


def _in_tcnn(mlp: FrameMLP, samples, frames, counts, gates, sparse, shared) -> Tensor:
    return tcnn_mlp.run_mlp(samples, mlp.parts(), frames, counts, gates, sparse, shared)


# Hidden widths with much room and with little; inputs and outputs on both sides of multiples of 16, with the 1 as well.
@pytest.mark.parametrize("counts", [[100, 0, 31, 1], [0, 40, 0], [1]])
@pytest.mark.parametrize(("inputs", "frame_dim", "width", "layers", "outputs"), [
    (49, 6, 64, 3, 65), (20, 0, 64, 2, 3), (24, 8, 32, 3, 2), (15, 1, 32, 2, 16), (33, 3, 15, 4, 17)
])  # fmt: skip
@pytest.mark.parametrize("more", [False, True])
def test_equals_linear_layers(counts, inputs, frame_dim, width, layers, outputs, more):
    torch.manual_seed(0)
    mlp = FrameMLP(REFERENCE, inputs, frame_dim, width, layers, outputs)
    count = sum(counts)
    frames = torch.randn(len(counts), frame_dim) if frame_dim else None
    gates = torch.rand(count, 1) if more and frame_dim else None
    sparse, shared = (_sparse(count, 4), _shared(count, 3)) if more else (None, None)
    samples = torch.randn(count, inputs - 8 if more else inputs)
    given = [samples, frames, gates, *((sparse.values, sparse.common) if sparse else ())]
    asked = [each.requires_grad_() for each in given if each is not None] + list(mlp.parameters())
    found = _in_tcnn(mlp, samples, frames, counts, gates, sparse, shared)
    expected = mlp(samples, frames, counts, gates, sparse, shared)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(each, asked, upstream) for each in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(
    inputs=st.integers(1, 50),
    frame_dim=st.integers(0, 20),
    width=st.integers(1, 127),
    layers=st.integers(2, 4),
    outputs=st.integers(1, 40),
    bias=st.sampled_from([-1e3, -1.0, 0.0, 1.0, 1e3]),
)
def test_biases_of_any_size_are_carried(inputs, frame_dim, width, layers, outputs, bias):
    torch.manual_seed(inputs)
    mlp = FrameMLP(REFERENCE, inputs, frame_dim, width, layers, outputs)
    for each in mlp.parts().biases:
        each.data = bias * (0.5 + torch.rand_like(each))
    samples, frames = torch.randn(7, inputs), torch.randn(2, frame_dim) if frame_dim else None
    found = _in_tcnn(mlp, samples, frames, [3, 4], None, None, None)
    expected = mlp(samples, frames, [3, 4])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


def test_parameters_lie_as_the_library_reads_them():
    weights = [torch.tensor([[2.0, 3.0]]), torch.tensor([[4.0]]), torch.tensor([[5.0], [6.0]])]
    biases = [torch.tensor([-1.0]), torch.tensor([-2.0]), torch.tensor([-3.0, -4.0])]
    first, inner, last = tcnn_mlp.packed(weights, biases, 16).view(3, 16, 16)
    corners = [[[2.0, 3.0, -1.0], [0.0, 0.0, 1.0]], [[4.0, -2.0], [0.0, 1.0]], [[5.0, -3.0], [6.0, -4.0]]]
    for matrix, corner in zip((first, inner, last), corners, strict=True):
        expected = torch.zeros(16, 16)
        expected[:2, : len(corner[0])] = torch.tensor(corner)
        assert matrix.equal(expected)


def test_narrow_and_wide_layers_have_sizes_of_their_own():
    weights, biases = [torch.ones(40, 16), torch.ones(17, 40)], [torch.ones(40), torch.ones(17)]
    first, last = tcnn_mlp.packed(weights, biases, 64).split([64 * 32, 32 * 64])
    first, last = first.view(64, 32), last.view(32, 64)
    assert (first[:40, :17] == 1).all() and first[40, 16] == 1 and first.sum() == 40 * 17 + 1
    assert (last[:17, :41] == 1).all() and last.sum() == 17 * 41


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gated", [True, False])
def test_the_module_runs_it_in_half_precision(kind: torch.dtype, gated: bool, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(2)
    run_mlp, calls = tcnn_mlp.run_mlp, []
    monkeypatch.setattr(tcnn_mlp, "run_mlp", lambda *given: calls.append(1) or run_mlp(*given))
    fused = FrameMLP(Ops("cuda", "tcnn"), 33, 6, width=32, layers=3, out_dim=20)
    plain = FrameMLP(REFERENCE, 33, 6, width=32, layers=3, out_dim=20)
    sparse, shared = _sparse(201, 8), _shared(201, 5)
    samples, frames, gates = torch.randn(201, 19), torch.randn(2, 6), torch.rand(201, 1)
    inputs = [samples, frames, sparse.values, sparse.common, *([gates] if gated else [])]
    # Eighths are exact in half precision, and so are sums of their products: no ReLU opens by rounding or closes.
    for tensor in (*inputs, *fused.parameters()):
        tensor.data = (8.0 * tensor.data).round() / 8.0
        tensor.requires_grad_()
    plain.load_state_dict(fused.state_dict())
    monkeypatch.setattr(_Network, "kind", torch.float16)

    def numbers(network: FrameMLP, half: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", kind, enabled=half):
            out = network(samples, frames, [100, 101], gates if gated else None, sparse, shared)
        assert out.dtype == (kind if half else torch.float32)
        gradients = torch.autograd.grad(out.float().square().sum(), [*inputs, *network.parameters()])
        return out.detach(), *gradients

    expected = numbers(plain, half=False)
    assert not calls
    for one, other in zip(numbers(fused, half=True), expected, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0, atol=0.01 * float(other.abs().max()))
    assert calls == [1]
    numbers(fused, half=False)
    assert calls == [1]


def test_no_samples():
    mlp = FrameMLP(Ops("cuda", "tcnn"), 20, 4, width=32, layers=2, out_dim=5)
    with torch.autocast("cpu", torch.bfloat16):
        found = mlp(torch.zeros(0, 20), torch.zeros(2, 4), [0, 0])
    assert found.shape == (0, 5)
    found.sum().backward()
    assert all(each.grad is not None and float(each.grad.abs().max()) == 0 for each in mlp.parameters())


def test_wide_networks_fall_back_to_triton_and_then_to_the_reference(monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    for name, module in (("tcnn", tcnn_mlp), ("triton", triton_mlp)):
        monkeypatch.setattr(module, "run_mlp", lambda *_, name=name: ran.append(name) or torch.zeros(3, 5))
    for inputs, width in ((20, 127), (20, 128), (207 - 4, 64), (208 - 4, 64), (20, 256)):
        mlp = FrameMLP(Ops("cuda", "tcnn"), inputs, 4, width=width, layers=2, out_dim=5)
        with torch.autocast("cpu", torch.bfloat16):
            assert mlp(torch.zeros(3, inputs), torch.zeros(1, 4), [3]).shape == (3, 5)
    # More than 128 inputs or channels are too many for both.
    assert ran == ["tcnn", "triton", "tcnn"]


def test_networks_that_do_not_fit_are_refused():
    mlp = FrameMLP(REFERENCE, 20, 0, width=128, layers=2, out_dim=5)
    with pytest.raises(ValueError, match="No fused network"):
        _in_tcnn(mlp, torch.zeros(3, 20), None, [3], None, None, None)


def test_another_network_than_the_fused_one_is_refused(monkeypatch: pytest.MonkeyPatch):
    class Other(_Network):
        """What stands in on older GPUs: padded to multiples of 8."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.params = nn.Parameter(self.params[:-8].detach())

    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Network=Other))
    mlp = FrameMLP(REFERENCE, 20, 0, width=32, layers=2, out_dim=5)
    with pytest.raises(RuntimeError, match="on this GPU; use another backend"):
        _in_tcnn(mlp, torch.zeros(3, 20), None, [3], None, None, None)


def test_without_the_library_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(NTalkerError, match="tinycudann cannot be imported"):
        Ops("cuda", "tcnn")
