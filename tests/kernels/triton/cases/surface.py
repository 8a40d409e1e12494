"""Triton's distances from a surface and visibility of cells against the references."""

import pytest
import torch

from ntalker_ns.kernels.reference.surface import squared_distance
from ntalker_ns.kernels.triton import occupancy as triton_occupancy
from ntalker_ns.kernels.triton import surface as triton_surface

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _positions(samples: int) -> torch.Tensor:
    torch.manual_seed(samples)
    positions = 2.4 * torch.rand(samples, 3) - 1.2
    positions[:2] = torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]])[:samples]
    return positions.to(DEVICE)


@pytest.mark.parametrize("columns", [1, 7, 64])
@pytest.mark.parametrize("samples", [0, 1, 600])
def test_distances_from_a_surface(columns: int, samples: int):
    positions, surface = _positions(samples), torch.randn(columns, columns, device=DEVICE)
    expected = squared_distance(positions.double(), surface).float()
    torch.testing.assert_close(triton_surface.squared_distance(positions, surface), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 600])
def test_cells_keep_the_greatest_weight_seen(samples: int):
    positions = _positions(samples).clamp(-1.0, 1.0)
    weights = torch.rand(samples, device=DEVICE)
    visible = torch.rand(4, 4, 4, device=DEVICE)
    expected = visible.cpu().clone()
    for (x, y, z), weight in zip(positions.tolist(), weights.tolist(), strict=True):
        cell = tuple(min(int((each + 1.0) * 2.0), 3) for each in (x, y, z))
        expected[cell] = max(float(expected[cell]), weight)
    triton_occupancy.mark_visible(positions, weights, visible)
    torch.testing.assert_close(visible.cpu(), expected)
