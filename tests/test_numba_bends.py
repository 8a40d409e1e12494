"""The fused CPU gates and lip bending against plain torch in double precision."""

import numpy as np
import pytest
import torch

from ntalker_ns.field.gates import Gate
from ntalker_ns.field.numba_bends import gate

CENTERS = ((0.1, -0.4, 0.2), (-0.2, -0.4, 0.2))


@pytest.mark.parametrize("balls", [1, 2])
def test_gate_equals_the_plain_one_and_so_does_its_gradient(balls) -> None:
    torch.manual_seed(0)
    plain = Gate(CENTERS[:balls], inner=0.2, outer=0.5)
    positions = torch.rand(500, 3) * 1.6 - 0.8
    fused, exact = positions.clone().requires_grad_(), positions.double().requires_grad_()
    found = gate(fused, np.array(plain.centers, np.float32), plain.inner, plain.outer)
    expected = plain(exact)
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
    assert torch.autograd.gradcheck(lambda x: gate(x, np.array(CENTERS[:1]), 0.2, 0.5), (positions,))


def test_gate_at_a_centre_and_of_no_samples() -> None:
    centers = np.array(CENTERS, np.float32)
    positions = torch.from_numpy(centers).requires_grad_()
    values = gate(positions, centers, 0.2, 0.5)
    values.sum().backward()
    assert values.flatten().tolist() == [1, 1] and positions.grad is not None and not positions.grad.any()
    assert gate(torch.zeros(0, 3), centers, 0.2, 0.5).shape == (0, 1)
