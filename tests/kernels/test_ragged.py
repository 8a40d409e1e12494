"""Per-frame additions against plain indexing, in float64."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.ragged import (
    add_per_frame,
    count_per_frame,
    counts_on,
    ends_on,
    expand_per_frame,
    sums_per_frame,
)


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_add_per_frame_equals_indexing(counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(sum(counts))
    samples = torch.randn(sum(counts), 3, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(len(counts), 3, generator=generator, dtype=torch.float64, requires_grad=True)
    frame = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    torch.testing.assert_close(add_per_frame(samples, rows, counts), samples + rows[frame])
    torch.testing.assert_close(expand_per_frame(rows, counts), rows[frame])
    weights = torch.randn(sum(counts), 3, generator=generator, dtype=torch.float64)
    ours = torch.autograd.grad((add_per_frame(samples, rows, counts) * weights).sum(), (samples, rows))
    plain = torch.autograd.grad(((samples + rows[frame]) * weights).sum(), (samples, rows))
    torch.testing.assert_close(ours, plain)


def test_counts_and_ends_are_brought_to_a_device_once() -> None:
    there = torch.device("meta")
    assert ends_on([2, 0, 3], torch.device("cpu")).tolist() == [2, 2, 5]
    assert counts_on((2, 0, 3), torch.device("cpu")).tolist() == [2, 0, 3]
    assert ends_on([2, 3], there) is ends_on([2, 3], there) and counts_on((2, 3), there) is counts_on((2, 3), there)
    # However many pictures are rendered, of one frame each.
    kept = ends_on([4, 5], there)
    for number in range(1000):
        assert ends_on([number], there).shape == (1,)
    assert ends_on([4, 5], there) is kept and ends_on([7], torch.device("cpu")).tolist() == [7]


def test_add_per_frame_gradcheck() -> None:
    samples = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: add_per_frame(a, b, [2, 0, 3]), (samples, rows))


def test_gates_scale_what_is_added() -> None:
    generator = torch.Generator().manual_seed(4)
    samples, rows, gates = (
        torch.randn(n, c, generator=generator, dtype=torch.float64, requires_grad=True)
        for n, c in ((5, 2), (3, 2), (5, 1))
    )
    counts = [2, 0, 3]
    frame = torch.tensor([0, 0, 2, 2, 2])
    torch.testing.assert_close(add_per_frame(samples, rows, counts, gates), samples + gates * rows[frame])
    assert torch.autograd.gradcheck(lambda a, b, c: add_per_frame(a, b, counts, c), (samples, rows, gates))


def test_sums_of_each_frame():
    assert sums_per_frame(torch.tensor([3, 4, 5, 0, 7]), [1, 0, 2, 2]) == [3, 0, 9, 7]
    assert sums_per_frame(torch.zeros(0, dtype=torch.int64), [0]) == [0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_chosen_of_each_frame(counts: list[int], seed: int) -> None:
    chosen = torch.rand(sum(counts), generator=torch.Generator().manual_seed(seed)) < 0.5
    expected = [int(part.sum()) for part in chosen.split(counts)]
    assert count_per_frame(chosen.nonzero().squeeze(-1), counts) == expected
