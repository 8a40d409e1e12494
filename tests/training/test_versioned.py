"""Snapshots of tensors notice writes, and complain about those that are not counted."""

from pathlib import Path

import pytest
import torch
from support.tiny_clip import write_tiny_clip
from support.tiny_run import start, tiny_config
from torch import nn

from ntalker_ns.training import versioned
from ntalker_ns.training.optimizers import FusedAdamConfig
from ntalker_ns.training.versioned import Snapshot


def test_snapshots_differ_after_a_write_in_place_and_for_other_tensors():
    values = torch.zeros(3)
    before = Snapshot([values])
    assert before == Snapshot([values]) and before != Snapshot([torch.zeros(3)])
    values.add_(1.0)
    assert before != Snapshot([values])


def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    """Sums of values depend on it, and a live head is rendered in a thread of its own."""
    monkeypatch.setattr(versioned, "COMPARE_VALUES", True)
    values, threads = torch.randn(1 << 18), torch.get_num_threads()
    before = Snapshot([values])
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert before == Snapshot([values])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device", ["cpu"])
def test_our_optimiser_counts_its_writes(device: str):
    weight = nn.Parameter(torch.zeros(2, device=device))
    weight.grad = torch.ones_like(weight)
    optimizer, before = FusedAdamConfig(lr=0.1).setup([weight]), Snapshot([weight])
    optimizer.step()
    assert before != Snapshot([weight])


def test_writes_that_are_not_counted_are_loud(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(versioned, "COMPARE_VALUES", True)
    weight = nn.Parameter(torch.zeros(2))
    before = Snapshot([weight])
    weight.grad = torch.ones_like(weight)
    torch.optim.Adam([weight], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="without its version being raised"):
        assert before == Snapshot([weight])


class PlainFused(FusedAdamConfig):
    """Somebody else's fused optimiser."""

    def setup(self, params, **kwargs):
        return torch.optim.Adam(params, lr=self.lr, fused=True)


def test_a_trainer_counts_the_writes_of_any_optimiser(tmp_path: Path):
    config = tiny_config(write_tiny_clip(tmp_path / "data"), tmp_path / "outputs")
    for group in config.optimizers.values():
        group["optimizer"] = PlainFused(lr=1e-3)
    trainer = start(config)
    parameters = list(trainer.pipeline.model.head.field.parameters())
    before = Snapshot(parameters)
    trainer.train_iteration(0)
    assert before != Snapshot(parameters)
