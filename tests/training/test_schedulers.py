"""The learning-rate schedule against closed forms, and its state against torch's weights-only loader."""

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.training.schedulers import CosineDecayConfig, cosine_factor


def test_cosine_factor_passes_its_ends_and_middle():
    assert cosine_factor(0, 200, 0, 0.2) == 1.0
    assert cosine_factor(100, 200, 0, 0.2) == pytest.approx(0.6)
    assert cosine_factor(50, 200, 0, 0.0) == pytest.approx(0.5 + 0.25 * math.sqrt(2.0))
    assert cosine_factor(200, 200, 0, 0.2) == pytest.approx(0.2)


@given(
    step=st.integers(0, 5000),
    max_steps=st.integers(1, 3000),
    warmup=st.integers(0, 500),
    final=st.floats(1e-3, 1.0),
)
def test_factors_stay_between_zero_and_one_and_end_at_the_final_one(step, max_steps, warmup, final):
    value = cosine_factor(step, max_steps, warmup, final)
    assert type(value) is float
    assert 0.0 < value <= 1.0
    if step >= max(max_steps, warmup + 1):
        assert value == pytest.approx(final)


def test_warmup_rises_evenly():
    assert [cosine_factor(step, 100, 4, 0.1) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_state_loads_with_weights_only():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=5e-3)
    scheduler = CosineDecayConfig(max_steps=20, warmup_steps=3).setup().get_scheduler(optimizer, 5e-3)
    for _ in range(7):
        parameter.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert type(state["optimizer"]["param_groups"][0]["lr"]) is float
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(5e-3 * cosine_factor(7, 20, 3, 0.1))
    assert state["scheduler"]["last_epoch"] == 7


def test_a_schedule_without_an_end_is_refused():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="max_steps"):
        CosineDecayConfig().setup().get_scheduler(optimizer, 1e-3)
