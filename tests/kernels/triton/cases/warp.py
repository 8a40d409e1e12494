"""Triton gates and inverse warp against plain torch in double precision."""

import numpy as np
import pytest
import torch

from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.kernels.reference import warp as reference
from ntalker_ns.kernels.triton.warp import gate, inverse_warp
from ntalker_ns.kernels.types import FaceState, Gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CENTERS = ((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2))


@pytest.mark.parametrize("balls", [1, 2])
def test_gate_equals_the_plain_one_and_so_does_its_gradient(balls: int) -> None:
    torch.manual_seed(0)
    plain = Gate(CENTERS[:balls], inner=0.2, outer=0.5)
    positions = (torch.rand(500, 3) * 1.6 - 0.8).to(DEVICE)
    fused, exact = positions.clone().requires_grad_(), positions.double().requires_grad_()
    found = gate(fused, plain)
    expected = reference.gate(exact, plain)
    assert 0 < int((expected == 0).sum()) < 500 and bool((expected == 1).any())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    expected.backward(upstream.double())
    assert fused.grad is not None and exact.grad is not None
    torch.testing.assert_close(fused.grad.double(), exact.grad, rtol=0, atol=2e-5)
    assert torch.equal(gate(positions, plain), found)


def test_gate_at_a_centre_and_of_no_samples() -> None:
    balls = Gate(CENTERS, 0.2, 0.5)
    positions = torch.tensor(CENTERS, device=DEVICE).requires_grad_()
    values = gate(positions, balls)
    values.sum().backward()
    assert values.flatten().tolist() == [1, 1] and positions.grad is not None and not positions.grad.any()
    assert gate(positions[:0], balls).shape == (0, 1)


@pytest.mark.parametrize("counts", [[200, 0, 300], [130, 128, 1], [0, 0, 0]])
def test_inverse_warp_equals_the_reference(counts: list[int]) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    warps = [
        LandmarkWarp(rng.normal(size=(9, 2)) * 0.2, rng.normal(size=(2, 9, 2)) * 0.05, softness=0.05).to(DEVICE)
        for _ in range(2)
    ]
    brow_gate, eye_gate = Gate(CENTERS, inner=0.2, outer=0.5), Gate(CENTERS, inner=0.1, outer=0.6)
    x = np.linspace(-0.3, 0.3, 5)
    lids = np.stack([np.stack([x + at, -0.1 - 0 * x, 0 * x, 0.3 + 0 * x], axis=1) for at in (-0.3, 0.3)])
    openness = torch.tensor([1.0, 0.3, 0.0], device=DEVICE)
    shapes = [torch.randn(3, 2, dtype=torch.float64, device=DEVICE) for _ in range(2)]
    samples = sum(counts)
    positions = (torch.rand(samples, 3) * 1.2 - 0.6).to(DEVICE)
    # In runs, as along rays: some blocks have no speech at all.
    speech = (torch.rand(samples, 1) * (torch.arange(samples)[:, None] % 260 < 100)).to(DEVICE)
    marks = [warp(shape) for warp, shape in zip(warps, shapes, strict=True)]
    face = FaceState(brow_gate, eye_gate, marks[0], marks[1], torch.from_numpy(lids).to(DEVICE), openness)
    shift, closed = inverse_warp(positions, speech, counts, face)
    expected = reference.inverse_warp(positions.double(), speech.double(), counts, face)
    torch.testing.assert_close(shift.double(), expected[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(closed.double(), expected[1], rtol=0, atol=2e-6)
