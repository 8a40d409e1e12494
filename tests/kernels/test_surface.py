"""Squared distances from a surface, by hand and by both implementations for the CPU."""

import pytest
import torch

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.surface import squared_distance as reference

squared_distance = Ops("cpu").squared_distance

COLUMNS = 16


@pytest.mark.parametrize("implementation", [reference, squared_distance])
def test_between_the_centres_of_cells_lines_are_straight(implementation) -> None:
    # A plane, which straight lines reach everywhere between the outermost centres, and a step along z.
    x = (2 * torch.arange(COLUMNS) + 1.0) / COLUMNS - 1.0
    surface = 0.3 * x[:, None] + 0.1 * (torch.arange(COLUMNS) >= 8)
    half, rim = 1.0 / COLUMNS, 1.0 - 1.0 / COLUMNS
    positions = torch.tensor(
        [[0.37, 0.5, -0.4], [-0.2, -0.1, half], [-0.2, -0.1, 0.0], [-0.2, -0.1, 0.5 * half], [1.4, 0.0, -2.0]]
    )
    expected = [0.111, -0.06 + 0.1, -0.06 + 0.05, -0.06 + 0.075, 0.3 * rim]
    found = implementation(positions, surface)
    torch.testing.assert_close(found, (positions[:, 1] - torch.tensor(expected)).square(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("columns", [1, 2, 64])
def test_fast_and_reference_agree(columns: int) -> None:
    torch.manual_seed(columns)
    surface = torch.randn(columns, columns)
    positions = 2.4 * torch.rand(2000, 3) - 1.2
    positions[:3] = torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = reference(positions.double(), surface).float()
    torch.testing.assert_close(squared_distance(positions, surface), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reference(positions, surface), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nan_affects_no_other_sample(axis: int) -> None:
    """Its cell would be out of bounds."""
    positions, surface = 2.0 * torch.rand(50, 3) - 1.0, torch.rand(COLUMNS, COLUMNS)
    expected = squared_distance(positions, surface)
    positions[20, axis] = float("nan")
    found = squared_distance(positions, surface)
    others = torch.arange(50) != 20
    assert torch.equal(found[others], expected[others])


def test_positions_get_no_gradient_and_there_may_be_none() -> None:
    positions = torch.zeros(0, 3, requires_grad=True)
    for implementation in (reference, squared_distance):
        found = implementation(positions, torch.zeros(4, 4))
        assert found.shape == (0,) and not found.requires_grad
