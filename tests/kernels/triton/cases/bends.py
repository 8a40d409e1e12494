"""Triton gates and bends against plain torch in double precision."""

import numpy as np
import pytest
import torch

from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.field.lid_fold import LidFold
from ntalker_ns.kernels.face import Face
from ntalker_ns.kernels.face_state import Gate
from ntalker_ns.kernels.triton.warp import calm, gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CENTERS = ((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2))


@pytest.mark.parametrize("balls", [1, 2])
def test_gate_equals_the_plain_one_and_so_does_its_gradient(balls: int) -> None:
    torch.manual_seed(0)
    plain = Gate(CENTERS[:balls], inner=0.2, outer=0.5)
    positions = (torch.rand(500, 3) * 1.6 - 0.8).to(DEVICE)
    fused, exact = positions.clone().requires_grad_(), positions.double().requires_grad_()
    found = gate(fused, plain)
    expected = plain(exact)
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
def test_calming_equals_warps_and_lids_one_after_the_other(counts: list[int]) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    warps = [
        LandmarkWarp(rng.normal(size=(9, 2)) * 0.2, rng.normal(size=(2, 9, 2)) * 0.05, softness=0.05).to(DEVICE)
        for _ in range(2)
    ]
    brow_gate, eye_gate = Gate(CENTERS, inner=0.2, outer=0.5), Gate(CENTERS, inner=0.1, outer=0.6)
    x = np.linspace(-0.3, 0.3, 5)
    lids = np.stack([np.stack([x + at, -0.1 - 0 * x, 0 * x, 0.3 + 0 * x], axis=1) for at in (-0.3, 0.3)])
    fold = LidFold(lids).to(DEVICE)
    openness = torch.tensor([1.0, 0.3, 0.0], device=DEVICE)
    shapes = [torch.randn(3, 2, dtype=torch.float64, device=DEVICE) for _ in range(2)]
    samples = sum(counts)
    positions = (torch.rand(samples, 3) * 1.2 - 0.6).to(DEVICE)
    # In runs, as along rays: some blocks are all still.
    speech = (torch.rand(samples, 1) * (torch.arange(samples)[:, None] % 260 < 100)).to(DEVICE)
    lips, brows = (warp.landmarks(shape) for warp, shape in zip(warps, shapes, strict=True))
    face = Face(brow_gate, eye_gate, lips, brows, fold.lids, openness)
    shift, closed = calm(positions, speech, counts, face)

    exact, frames = (
        positions.double(),
        torch.arange(3, device=DEVICE).repeat_interleave(torch.tensor(counts).to(DEVICE)),
    )
    expected = -speech.double() * warps[0](exact, shapes[0], counts)
    expected -= brow_gate(exact) * warps[1](exact, shapes[1], counts)
    open_eyes = openness.double()[frames][:, None]
    expected[:, 2:] += eye_gate(exact) * fold(exact + expected, open_eyes)[:, None]
    torch.testing.assert_close(shift.double(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(closed.double(), eye_gate(exact) * (1 - open_eyes), rtol=0, atol=2e-6)
