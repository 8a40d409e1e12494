"""numba's gates and inverse warp against plain torch in double precision."""

import numpy as np
import pytest
import torch

from ntalker_ns.kernels.numba.warp import gate, inverse_warp
from ntalker_ns.kernels.reference import warp as reference
from ntalker_ns.kernels.types import FaceState, Gate, Landmarks

CENTERS = ((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2))


@pytest.mark.parametrize("balls", [1, 2])
def test_gate_equals_the_plain_one_and_so_does_its_gradient(balls) -> None:
    torch.manual_seed(0)
    plain = Gate(CENTERS[:balls], inner=0.2, outer=0.5)
    positions = torch.rand(500, 3) * 1.6 - 0.8
    fused, exact = positions.clone().requires_grad_(), positions.double().requires_grad_()
    found, expected = gate(fused, plain), reference.gate(exact, plain)
    assert 0 < int((expected == 0).sum()) < 500 and bool((expected == 1).any())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    expected.backward(upstream.double())
    assert fused.grad is not None and exact.grad is not None
    torch.testing.assert_close(fused.grad.double(), exact.grad, rtol=0, atol=2e-5)


def test_gradient_of_the_gate_equals_finite_differences() -> None:
    torch.manual_seed(1)
    # Between the radii: on them the slope is continuous, its own slope is not.
    directions = torch.nn.functional.normalize(torch.randn(6, 3, dtype=torch.float64), dim=1)
    positions = (torch.tensor(CENTERS[:1], dtype=torch.float64) + 0.35 * directions).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gate(x, Gate(CENTERS[:1], 0.2, 0.5)), (positions,))


def test_gate_at_a_centre_and_of_no_samples() -> None:
    balls = Gate(CENTERS, 0.2, 0.5)
    positions = torch.tensor(CENTERS).requires_grad_()
    values = gate(positions, balls)
    values.sum().backward()
    assert values.flatten().tolist() == [1, 1] and positions.grad is not None and not positions.grad.any()
    assert gate(torch.zeros(0, 3), balls).shape == (0, 1)


def test_inverse_warp_equals_landmarks_and_lids_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    lips, brows = (rng.normal(size=(3, 9, 2)) * 0.2 for _ in range(2))
    lip_motion, brow_motion = (rng.normal(size=(3, 9, 2)) * 0.05 for _ in range(2))
    brow_gate, eye_gate = Gate(CENTERS, inner=0.2, outer=0.5), Gate(CENTERS, inner=0.1, outer=0.6)
    x = np.linspace(-0.3, 0.3, 5)
    lids = np.stack([np.stack([x + at, -0.1 - 0 * x, 0 * x, 0.3 + 0 * x], axis=1) for at in (-0.3, 0.3)])
    openness = np.array([1.0, 0.3, 0.0])
    counts = [200, 0, 300]
    positions, speech = torch.rand(500, 3) * 1.2 - 0.6, torch.rand(500, 1) * (torch.rand(500, 1) < 0.5)
    marks = [
        Landmarks(torch.from_numpy(places), torch.from_numpy(motion), 0.05)
        for places, motion in ((lips, lip_motion), (brows, brow_motion))
    ]
    face = FaceState(brow_gate, eye_gate, marks[0], marks[1], torch.from_numpy(lids), torch.from_numpy(openness))
    shift, closed = inverse_warp(positions, speech, counts, face)
    exact = positions.double()
    raised, blinked = (reference.gate(exact, gate).numpy() for gate in (brow_gate, eye_gate))
    for i in range(500):
        frame = 0 if i < 200 else 2
        point = exact[i : i + 1].numpy()
        moved = speech[i].item() * _mean(point, lips[frame], lip_motion[frame])
        moved = moved + raised[i] * _mean(point, brows[frame], brow_motion[frame])
        canonical = torch.from_numpy(point - np.array([moved[0], 0.0, moved[1]]))
        open_eyes = torch.full((1,), openness[frame], dtype=torch.float64)
        canonical[:, 2] += blinked[i].item() * reference.lid_rise(canonical, torch.from_numpy(lids), open_eyes)
        np.testing.assert_allclose(shift[i], (canonical - exact[i])[0], rtol=0, atol=2e-5)
        assert closed[i].item() == pytest.approx(blinked[i].item() * (1 - openness[frame]), abs=1e-6)
    assert inverse_warp(positions[:0], speech[:0], [0, 0, 0], face)[0].shape == (0, 3)
    # NaN has no place on the lids, and affects no other sample.
    positions[7, 0] = float("nan")
    others = torch.arange(500) != 7
    assert torch.equal(inverse_warp(positions, speech, counts, face)[0][others], shift[others])


def _mean(point: np.ndarray, places: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Shepard's mean of the landmarks' motion in double precision."""
    squared = ((point[0, [0, 2]] - places) ** 2).sum(axis=1)
    weights = (squared + 0.05**2) ** -2.0
    return weights @ motion / weights.sum()
