"""Samples of one frame lie side by side, so what belongs to a frame is added slice by slice, never repeated.

Nor is what most samples of all frames share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.training import transfers


class _AddPerFrame(torch.autograd.Function):
    """Adds row f of `rows`, times each sample's gate, to the f-th run of samples.

    Indexing `rows[frame_of_sample]` does the same, but its backward scatters every sample's gradient by index,
    which on a CPU costs more than the matrix product beside it; here the backward is one sum a frame.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, rows: Tensor, gates: Tensor | None, counts: list[int]) -> Tensor:
        ctx.counts = counts
        ctx.save_for_backward(rows, gates)
        out = samples.clone()
        parts = [None] * len(counts) if gates is None else gates.split(counts)
        for part, row, gate in zip(out.split(counts), rows, parts, strict=True):
            if gate is None:
                part.add_(row)
            else:
                part.addmm_(gate, row[None])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (grad,) = grads
        rows, gates = ctx.saved_tensors
        parts = grad.split(ctx.counts)
        if gates is None:
            return grad, torch.stack([part.sum(dim=0) for part in parts]), None, None
        to_rows = [gate.T @ part for gate, part in zip(gates.split(ctx.counts), parts, strict=True)]
        to_gates = [part @ row[:, None] for part, row in zip(parts, rows, strict=True)]
        return grad, torch.cat(to_rows), torch.cat(to_gates), None


def add_per_frame(
    samples: Float[Tensor, "samples channels"],
    rows: Float[Tensor, "frames channels"],
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None = None,
) -> Float[Tensor, "samples channels"]:
    """Adds to each sample the row of its frame, times the sample's gate.

    Args:
        samples: grouped by frame, frame after frame.
        rows: one a frame.
        counts: how many samples each frame has; sums to `samples`.
        gates: how much of the row a sample takes; all of it where None.
    """
    return _AddPerFrame.apply(samples, rows, gates, counts)  # type: ignore[no-any-return]


def ends_on(counts: Sequence[int], device: torch.device) -> Int[Tensor, "frames"]:
    """The place behind each frame's last sample, int32; kernels find a sample's frame by it.

    Args:
        counts: samples of each frame: from step to step mostly the same, so that they are brought to a device once.
        device: where kernels run.
    """
    if len(counts) == 1:
        # Of pictures, which would push those of training out.
        return torch.full((1,), counts[0], dtype=torch.int32, device=device)
    return _ends_on(tuple(counts), device)


# Without an end: recorded steps read what is in here where it lies.
@cache
def counts_on(counts: tuple[int, ...], device: torch.device) -> Int[Tensor, "frames"]:
    """Samples of each frame on a device, brought there once as `ends_on` says."""
    return transfers.to_device(torch.tensor(counts), device)


@cache
def _ends_on(counts: tuple[int, ...], device: torch.device) -> Tensor:
    return transfers.to_device(torch.tensor(counts, dtype=torch.int32).cumsum(dim=0, dtype=torch.int32), device)


def expand_per_frame(rows: Tensor, counts: list[int]) -> Tensor:
    """Repeats each frame's row for its samples; `add_per_frame` does without the copies.

    Args:
        rows: (frames, ...).
        counts: how many samples each frame has.
    """
    return torch.cat([row.expand(count, *row.shape) for row, count in zip(rows, counts, strict=True)])


def sums_per_frame(values: Int[Tensor, "samples"], counts: list[int]) -> list[int]:
    """The sum over each frame's samples; one question to the device for all frames.

    Args:
        values: grouped by frame.
        counts: how many samples each frame has.
    """
    ends = torch.tensor([0, *accumulate(counts)], device=values.device)
    sums = torch.nn.functional.pad(values.cumsum(dim=0), (1, 0))[ends]
    return sums.diff().tolist()


def chosen_per_frame(index: Int[Tensor, "chosen"], counts: list[int]) -> list[int]:
    """How many of each frame's samples are among the chosen ones.

    Args:
        index: which samples are chosen, ascending; on the host.
        counts: how many samples each frame has.
    """
    places = np.searchsorted(index.numpy(), [0, *accumulate(counts)])
    return np.diff(places).tolist()


class Chosen(NamedTuple):
    """Samples, or rays, of which something is asked."""

    mask: Bool[Tensor, "samples"]
    """Which of them matter."""
    index: Int[Tensor, "asked"] | None
    """Which are asked, ascending; None: all of them."""
    counts: list[int]
    """How many of each frame are asked."""

    def of(self, values: Tensor) -> Tensor:
        """The rows of those that are asked."""
        return values if self.index is None else values.index_select(0, self.index)

    def spread(self, values: Tensor) -> Tensor:
        """Rows for all, from those of the asked ones; zero where the mask is not."""
        if self.index is None:
            return torch.where(self.mask.view(-1, *(1,) * (values.ndim - 1)), values, 0.0)
        return values.new_zeros(len(self.mask), *values.shape[1:]).index_copy(0, self.index, values)

    def total(self, values: Tensor) -> Float[Tensor, ""]:
        """The sum of the asked ones' numbers over those that matter."""
        return (self.spread(values) if self.index is None else values).sum()


def choose(mask: Bool[Tensor, "samples"], counts: list[int]) -> Chosen:
    """Those of a mask on the CPU; all on a device where the host would have to wait to be told how many those are.

    Args:
        mask: grouped by frame.
        counts: samples of each frame.
    """
    if not transfers.would_synchronize(mask):
        index = mask.nonzero().squeeze(-1)
        return Chosen(mask, index, chosen_per_frame(index, counts))
    return Chosen(mask, None, counts)


class PerRay(NamedTuple):
    """Input channels that all samples of a ray share; no gradient."""

    values: Float[Tensor, "rays channels"]
    rays: Int[Tensor, "samples"]
    """The ray of each sample."""

    def columns(self, kind: torch.dtype) -> Float[Tensor, "samples channels"]:
        """Written out for each sample, in a type."""
        return self.values.to(kind).index_select(0, self.rays)


@dataclass(frozen=True)
class SparseInputs:
    """Input channels of a network that are the same for most samples; behind them one that is mostly 0."""

    values: Float[Tensor, "special channels"]
    """Of the samples that are asked for values of their own."""
    special: Chosen
    """Which samples those are, and which of them have some."""
    common: Float[Tensor, "1 channels"]
    """Of all others."""
    last: Float[Tensor, "samples 1"]
    """No gradient."""

    def columns(self) -> Float[Tensor, "samples columns"]:
        """All of them, written out."""
        return torch.cat([self.without_last(), self.last], dim=-1)

    def without_last(self) -> Float[Tensor, "samples channels"]:
        """Those that are the same for most samples, written out."""
        if self.special.index is None:
            return torch.where(self.special.mask[:, None], self.values, self.common)
        return self.common.expand(len(self.last), -1).index_copy(0, self.special.index, self.values)
