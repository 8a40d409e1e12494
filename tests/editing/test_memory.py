"""Editors that run out of memory: the head leaves the GPU, then batches get smaller."""

from collections.abc import Sequence

import pytest
import torch

from ntalker_ns.editing.filters import FilterEditor, FilterEditorConfig
from ntalker_ns.editing.memory import head_restored, in_batches
from ntalker_ns.errors import NTalkerError

GPU, CPU = torch.device("cuda"), torch.device("cpu")


class Head:
    """Keeps track of its device."""

    def __init__(self, device: torch.device) -> None:
        self.head_device = device

    def move_head(self, device: torch.device) -> None:
        self.head_device = device


class Memory:
    """Edits up to `limit` frames at a time, and none while the head is on the GPU."""

    def __init__(self, head: Head, limit: int) -> None:
        self.head, self.limit = head, limit
        self.batches: list[list[int]] = []

    def edit(self, batch: Sequence[int]) -> None:
        if self.head.head_device == GPU or len(batch) > self.limit:
            raise torch.OutOfMemoryError
        self.batches.append(list(batch))


def test_the_head_leaves_first_and_then_batches_are_halved():
    head = Head(GPU)
    memory = Memory(head, limit=2)
    with head_restored(head, FilterEditor(FilterEditorConfig())):
        assert list(in_batches(range(7), 4, memory.edit, head)) == [2, 4, 6, 7]
        assert head.head_device == CPU
    assert memory.batches == [[0, 1], [2, 3], [4, 5], [6]]
    assert head.head_device == GPU


def test_the_head_returns_after_an_error():
    head = Head(GPU)
    with (
        pytest.raises(NTalkerError, match=r"smaller --editor\.size"),
        head_restored(head, FilterEditor(FilterEditorConfig())),
    ):
        list(in_batches(range(3), 2, Memory(head, limit=0).edit, head))
    assert head.head_device == GPU
