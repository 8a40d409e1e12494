"""The lid fold: by hand at its edges, and in both precisions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.reference.warp import lid_rise


def lids() -> np.ndarray:
    """Two eyes: a lower lid at 0, an upper one up to 0.1 over it, skin up to 0.3."""
    across = np.linspace(-1, 1, 5)
    eyes = [
        np.stack([x + 0.2 * across, 0 * across, 0.1 * (1 - across**2), 0.3 + 0 * across], axis=1) for x in (-0.5, 0.5)
    ]
    return np.stack(eyes).astype(np.float32)


def rise(x: float, z: float, openness: float) -> float:
    positions, open_eyes = torch.tensor([[x, -0.4, z]]), torch.tensor([openness])
    single = lid_rise(positions, torch.from_numpy(lids()), open_eyes)
    double = lid_rise(positions.double(), torch.from_numpy(lids()), open_eyes.double())
    assert float(single) == pytest.approx(float(double), abs=1e-6)
    return float(double)


def test_open_eyes_are_seen_as_they_are():
    for z in (-0.1, 0.05, 0.1, 0.2, 0.4):
        assert rise(0.5, z, 1.0) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("middle", [-0.5, 0.5])
def test_the_edge_of_the_lid_goes_down_with_it(middle: float):
    for openness, edge in ((0.0, 0.0), (0.5, 0.05), (0.9, 0.09)):
        above = edge + 1e-6
        assert above + rise(middle, above, openness) == pytest.approx(0.1, abs=1e-5)
        # Below the edge the eye is seen, and skin ends where it stays.
        assert rise(middle, edge - 1e-3, openness) == 0.0
        assert rise(middle, 0.3, openness) == 0.0
        halfway = 0.5 * (edge + 0.3)
        assert halfway + rise(middle, halfway, openness) == pytest.approx(0.2, abs=1e-5)


def test_nothing_moves_beside_the_eyes_and_in_their_corners():
    for x in (-0.71, -0.29, 0.0, 0.29, 0.71):
        assert rise(x, 0.05, 0.0) == 0.0
    assert rise(0.3 + 1e-6, 0.05, 0.0) == pytest.approx(0.0, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), openness=st.floats(0, 1, width=32))
def test_single_precision_gives_the_numbers_of_double(seed: int, openness: float):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(200, 3, generator=generator) * torch.tensor([1.6, 1.0, 0.6]) - torch.tensor([0.8, 0.5, 0.15])
    curves, open_eyes = torch.from_numpy(lids()), torch.full((200,), openness)
    # Away from the edge, where rounding decides.
    found = lid_rise(positions, curves, open_eyes)
    expected = lid_rise(positions.double(), curves, open_eyes.double())
    close = torch.isclose(found.double(), expected, atol=1e-6)
    assert int((~close).sum()) <= 1


def test_no_samples():
    assert lid_rise(torch.zeros(0, 3), torch.from_numpy(lids()), torch.zeros(0)).shape == (0,)
