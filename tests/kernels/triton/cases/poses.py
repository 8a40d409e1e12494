"""Triton pose corrections against plain torch in double precision."""

import pytest
import torch

from ntalker_ns.kernels.reference import poses as reference
from ntalker_ns.kernels.triton.poses import BLOCK, SUMMED, correct_poses

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.009, 0.011, 0.5, 3.0])
@pytest.mark.parametrize("counts", [[5, 0, 40], [BLOCK + 1, 1, SUMMED + 7]])
def test_samples_and_gradients_equal_autograd(angle: float, counts: list[int]) -> None:
    torch.manual_seed(0)
    positions, upstream = (torch.randn(sum(counts), 3, device=DEVICE) for _ in range(2))
    fused = torch.randn(3, 6, device=DEVICE)
    fused[:, :3] *= angle / fused[:, :3].norm(dim=1, keepdim=True)
    exact = fused.double().requires_grad_()
    found = correct_poses(positions, fused.requires_grad_(), counts)
    expected = reference.correct_poses(positions.double(), exact, counts)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)
    found.backward(upstream)
    expected.backward(upstream.double())
    assert fused.grad is not None and exact.grad is not None
    torch.testing.assert_close(fused.grad.double(), exact.grad, rtol=1e-5, atol=1e-4)


def test_no_samples_and_samples_that_lie_column_by_column() -> None:
    corrections = torch.randn(2, 6, device=DEVICE, requires_grad=True)
    moved = correct_poses(torch.zeros(0, 3, device=DEVICE), corrections, [0, 0])
    moved.sum().backward()
    assert moved.shape == (0, 3) and corrections.grad is not None and not corrections.grad.any()
    positions = torch.randn(6, 3, device=DEVICE)
    for values in (positions, positions.T.contiguous().T):
        expected = reference.correct_poses(positions, corrections, [2, 4])
        torch.testing.assert_close(correct_poses(values, corrections, [2, 4]), expected, rtol=0, atol=2e-6)
