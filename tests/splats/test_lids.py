"""Lids of Gaussians against the field's fold, whose inverse they are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.made_up_lids import open_lids

from ntalker_ns.kernels.reference.warp import lid_rise
from ntalker_ns.kernels.types import Gaussians
from ntalker_ns.splats.lids import LidFold, fold

EYES = {"left_eye": np.array([0.2, -0.6, 0.1]), "right_eye": np.array([-0.2, -0.6, 0.1])}
LIDS = torch.from_numpy(open_lids(EYES)).double()


def gaussians_at(x: torch.Tensor, z: torch.Tensor) -> Gaussians:
    count = len(x)
    means = torch.stack([x, torch.full_like(x, -0.6), z], dim=1)
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=x.dtype).expand(count, 4)
    zeros = torch.zeros(count, 3, dtype=x.dtype)
    return Gaussians(means, zeros - 4.0, upright, zeros[:, 0] + 2.0, zeros)


def closed(gaussians: Gaussians, closure: float) -> Gaussians:
    everywhere = torch.ones(len(gaussians.means), dtype=gaussians.means.dtype)
    lids = LidFold.at(gaussians.means, everywhere, LIDS)
    return fold(gaussians, lids, torch.tensor(closure, dtype=torch.float64))


@given(st.floats(0.0, 1.0), st.floats(-0.95, 0.95), st.floats(0.02, 0.98), st.sampled_from([-0.2, 0.2]))
def test_skin_falls_to_where_the_field_looks_it_up(closure: float, across: float, up: float, eye: float) -> None:
    opened = 0.1 + 0.08 * (1 - across**2)
    x, z = torch.tensor([eye + 0.1 * across]).double(), torch.tensor([opened + 0.1 * up]).double()
    # Columns are joined by straight lines, below the parabola; a Gaussian there is skin too.
    moved = closed(gaussians_at(x, z), closure).means
    rise = lid_rise(moved, LIDS, torch.tensor([1.0 - closure]).double())
    assert float(moved[0, 2] + rise[0]) == pytest.approx(float(z[0]), abs=1e-7)


def test_skin_is_stretched_as_far_as_it_falls():
    x, z = torch.tensor([0.2, 0.2]).double(), torch.tensor([0.20, 0.201]).double()
    before, after = gaussians_at(x, z), closed(gaussians_at(x, z), 0.7)
    stretch = (after.means[1, 2] - after.means[0, 2]) / (z[1] - z[0])
    grown = (after.log_scales - before.log_scales).exp()
    torch.testing.assert_close(grown[:, 2], stretch.expand(2))
    torch.testing.assert_close(grown[:, :2], torch.ones(2, 2).double())


def test_an_eye_hides_behind_a_lid_and_the_rest_stays():
    # An iris, the cheek below, the brow above, and the nose between the eyes.
    x, z = torch.tensor([0.2, 0.2, 0.2, 0.0]).double(), torch.tensor([0.14, 0.05, 0.29, 0.14]).double()
    before = gaussians_at(x, z)
    for closure in (0.0, 0.2):
        assert torch.equal(closed(before, closure).opacity_logits, before.opacity_logits)
    after = closed(before, 1.0)
    opacity = torch.sigmoid(after.opacity_logits)
    assert opacity[0] < 0.01 and (opacity[1:] == torch.sigmoid(before.opacity_logits[1:])).all()
    assert torch.equal(after.means, before.means)
