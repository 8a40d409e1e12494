"""What is known on the host and when: at once on the CPU, always as many steps late where it would wait."""

import pytest
import torch

from ntalker_ns.training import transfers
from ntalker_ns.training.transfers import CachedNonzero, DelayedScalar, DeviceCopy, to_device


def test_scalars_are_not_delayed_on_the_cpu() -> None:
    numbers = DelayedScalar()
    assert [numbers.put(torch.tensor(float(i))) for i in range(4)] == [0.0, 1.0, 2.0, 3.0]
    values = torch.arange(3)
    assert to_device(values, "cpu") is values


def test_scalars_are_two_steps_late_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    numbers = DelayedScalar()
    assert [numbers.put(torch.tensor(float(i))) for i in range(5)] == [None, None, 0.0, 1.0, 2.0]


def test_device_copies_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    there = torch.device("meta")
    monkeypatch.setattr(transfers, "to_device", lambda values, device: asked.append(device) or values.to(device))
    known = DeviceCopy(torch.arange(3.0))
    assert known.on(torch.device("cpu")) is known.host and not asked
    assert known.on(there) is known.on(there) and asked == [there]
    assert known.on(torch.device("cpu")).tolist() == [0.0, 1.0, 2.0]


def test_nonzero_indices_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    nonzero = torch.Tensor.nonzero
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda self: asked.append(1) or nonzero(self))
    mask = torch.tensor([[False, True], [True, False]])
    indices = CachedNonzero()
    assert indices.of(mask).tolist() == indices.of(mask).tolist() == [1, 2]
    assert len(asked) == 1
    mask[1, 1] = True
    assert indices.of(mask).tolist() == [1, 2, 3]
    other = mask.clone()
    assert indices.of(other).tolist() == [1, 2, 3]
    assert len(asked) == 3
