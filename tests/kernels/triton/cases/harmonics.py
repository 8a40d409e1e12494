"""Triton's spherical harmonics against nerfstudio's."""

import pytest
import torch
from nerfstudio.utils.math import components_from_spherical_harmonics

from ntalker_ns.kernels.triton.harmonics import MAX_LEVELS, spherical_harmonics

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("levels", range(1, MAX_LEVELS + 1))
@pytest.mark.parametrize("samples", [0, 1, 300])
def test_equals_nerfstudios(levels: int, samples: int) -> None:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(samples, 3), dim=1).to(DEVICE)
    expected = components_from_spherical_harmonics(levels, directions)
    torch.testing.assert_close(spherical_harmonics(levels, directions), expected, rtol=0, atol=2e-6)
