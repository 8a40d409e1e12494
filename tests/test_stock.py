"""The scaler of the loss: as stock's, but its scale is hidden."""

import pytest
import torch
from torch.amp.grad_scaler import GradScaler

from ntalker_ns.stock import NonBlockingGradScaler


def run(scaler: GradScaler, gradients: list[float]) -> tuple[list[float], dict]:
    """The weight after each step with such a gradient, and the scaler's state at the end."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, weights = torch.optim.SGD([weight], lr=1.0), []
    for gradient in gradients:
        weight.grad = None
        scaler.scale(weight * gradient).sum().backward()
        scaler.step(optimizer)
        scaler.update()
        weights.append(float(weight))
    return weights, scaler.state_dict()


def test_steps_and_scales_are_stocks() -> None:
    stock, ours = (kind(device="cpu", growth_interval=2) for kind in (GradScaler, NonBlockingGradScaler))
    gradients = [1.0, 2.0, float("inf"), 0.5, 0.25]
    expected, found = run(stock, gradients), run(ours, gradients)
    assert found == expected and found[0] == [-1.0, -3.0, -3.0, -3.5, -3.75]
    assert found[1]["scale"] == 2.0**17 and ours.get_scale() == 1.0
    resumed = NonBlockingGradScaler(device="cpu")
    resumed.load_state_dict(found[1])
    assert resumed.state_dict() == found[1]


def test_one_that_is_off_has_no_state() -> None:
    scaler = NonBlockingGradScaler(device="cpu", enabled=False)
    assert scaler.state_dict() == {} and scaler.get_scale() == 1.0
    assert float(scaler.scale(torch.tensor(2.0))) == pytest.approx(2.0)
